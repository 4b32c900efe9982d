"""flax.linen's LSTMCell and OptimizedLSTMCell: single cells, under RNN and Bidirectional, and in stacks.

    i{gate}/kernel [D, H]     h{gate}/kernel [H, H]     h{gate}/bias [H]     gate = i, f, g, o

Gates go by name, kernels are [in, out], and one bias lies on the recurrent side. Both cells have the same tree.
Carries are (c, h).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert import gates
from jax_lstm.convert.arrays import AnyTree, Array, Params, read_array
from jax_lstm.convert.layers import CellWeights, is_cell, join_layers, make_cell, map_cells, required_bias, split_layers
from jax_lstm.convert.nesting import DIRECTIONS, find_layers

GateNames: TypeAlias = Mapping[str, tuple[str, str]]  # by gate, its entries of the input side and the recurrent one
GATES: GateNames = {gate: (f"i{gate}", f"h{gate}") for gate in gates.TORCH}
EXPECTED = (
    "the params of flax.linen's LSTMCell or OptimizedLSTMCell, of an RNN or Bidirectional, or a stack of them by "
    "numbers 0, 1, ..."
)


def from_flax(tree: AnyTree, *, bidirectional: bool = False, dtype: DTypeLike | None = None) -> Params:
    """Read the params of flax.linen's LSTM cells as a parameter tree of this package.

    The conversion is lossless unless `dtype` is narrower: `jax_lstm.convert.to_flax` returns the same bits.

    Args:
      tree: the params of a cell, of RNN, of Bidirectional, or of a stack of these. A stack is a list of layers, or a
        mapping with numbered names: `layers_0`, `layers_1` of Sequential, or `OptimizedLSTMCell_0` and so on of a
        compact module. A variables dict may be given whole; its entry "params" is read.
      bidirectional: whether the numbered cells are two per layer, forward before reverse, as a compact module names
        them.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays. A single cell without RNN becomes layer 0 too. The bias becomes
      `bias_ih`, and `bias_hh` is zero.

    Raises:
      TypeError: a leaf is not a floating-point array that JAX can read.
      ValueError: the tree is another library's or lacks a gate, or its layers do not fit one another.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jax_lstm import convert
      >>> variables = nn.RNN(nn.OptimizedLSTMCell(5)).init(jax.random.key(0), jnp.zeros((2, 7, 3)))
      >>> params = convert.from_flax(variables)
      >>> params["weight_ih_l0"].shape
      (20, 3)
    """
    read = partial(read_gates, argument="tree", expected=EXPECTED, names=GATES, dtype=dtype)
    return join_layers(find_layers(tree, read, partial(refuse_tree, "tree", EXPECTED), bidirectional))


def to_flax(params: Mapping[str, Array], *, strict: bool = False) -> dict[str, Any]:
    """Write an LSTM as flax.linen's params; the inverse of `jax_lstm.convert.from_flax`.

    The conversion is lossless if `bias_hh` is zero. Otherwise Flax's one bias is the sum of both, rounded.

    Args:
      params: a torch.nn.LSTM state dict with biases and without projection, or a torch.nn.LSTMCell's.
      strict: refuse a `bias_hh` that is not zero, for which Flax has no place.

    Returns:
      The params of a Flax module. A cell's are those of LSTMCell or OptimizedLSTMCell. One layer's are those of RNN,
      `{"cell": ...}`, or of Bidirectional, `{"forward_rnn": ..., "backward_rnn": ...}`. Those of several layers are
      Sequential's, `{"layers_0": ..., "layers_1": ...}`. Arrays are NumPy's or jax's, like those of `params`.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, it has a projection or no biases, or `strict` refuses
        it.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
      >>> variables = {"params": jax_lstm.convert.to_flax(params)}
      >>> nn.RNN(nn.OptimizedLSTMCell(5)).apply(variables, jnp.zeros((2, 7, 3))).shape
      (2, 7, 5)
    """
    layers = map_cells(split_layers(params, "Flax"), partial(write_gates, names=GATES, strict=strict))
    if is_cell(params):
        return layers[0][0]
    wrapped = [wrap(layer) for layer in layers]
    return wrapped[0] if len(wrapped) == 1 else {f"layers_{n}": layer for n, layer in enumerate(wrapped)}


def wrap(layer: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Return one direction as RNN nests it, or two as Bidirectional does."""
    directions = [{"cell": cell} for cell in layer]
    return directions[0] if len(directions) == 1 else dict(zip(DIRECTIONS, directions, strict=True))


def read_gates(
    tree: AnyTree, argument: str, expected: str, names: GateNames, dtype: DTypeLike | None
) -> CellWeights | None:
    """Return a cell that has one entry per gate and side, by their ``names``; None if the tree has none of them."""
    if not isinstance(tree, Mapping) or not {name for pair in names.values() for name in pair} & set(tree):
        return None
    leaves = {leaf for x, h in names.values() for leaf in (f"{x}/kernel", f"{h}/kernel", f"{h}/bias")}
    check_leaves(tree, leaves, argument, expected)

    def read(side: int, leaf: str, rank: int) -> Array:
        entries = [names[gate][side] for gate in gates.TORCH]
        blocks = [read_array(f"{argument}[{entry!r}][{leaf!r}]", tree[entry][leaf], dtype) for entry in entries]
        shapes = [tuple(block.shape) for block in blocks]
        if len(set(shapes)) > 1 or len(shapes[0]) != rank:
            came = ", ".join(f"{entry} {shape}" for entry, shape in zip(entries, shapes, strict=True))
            layout = "[in, H]" if rank == 2 else "[H]"
            raise ValueError(f"{argument} must have one {leaf} {layout} per gate, all of one shape; got {came}.")
        return gates.join_gates([block.T for block in blocks])

    return make_cell(read(0, "kernel", 2), read(1, "kernel", 2), read(1, "bias", 1))


def check_leaves(tree: Mapping[Any, AnyTree], leaves: set[str], argument: str, expected: str) -> None:
    """Refuse a tree of two levels that lacks one of these leaves, such as "ii/kernel", or has another."""
    present = {
        f"{name}/{leaf}" for name, entry in tree.items() for leaf in (entry if isinstance(entry, Mapping) else ("",))
    }
    if missing := sorted(leaves - present):
        refuse_tree(argument, f"{expected}, with {', '.join(missing)}", tree)
    if surplus := sorted(present - leaves):
        refuse_tree(argument, f"{expected}, without {', '.join(surplus)}", tree)


def write_gates(cell: CellWeights, names: GateNames, strict: bool) -> dict[str, Any]:
    """Return a cell as one entry per gate and side, by their ``names``."""
    inputs, recurrent = (gates.split_gates(cell[name]) for name in ("weight_ih", "weight_hh"))
    bias = gates.split_gates(required_bias(cell, "Flax", strict))
    tree: dict[str, Any] = {names[gate][0]: {"kernel": inputs[gate].T} for gate in gates.TORCH}
    return tree | {names[gate][1]: {"kernel": recurrent[gate].T, "bias": bias[gate]} for gate in gates.TORCH}
