"""flax.linen's LSTMCell and OptimizedLSTMCell, alone, under RNN and Bidirectional, and in stacks.

    i{gate}/kernel [D, H]     h{gate}/kernel [H, H]     h{gate}/bias [H]     gate = i, f, g, o

Gates go by name, kernels are [in, out], and one bias lies on the recurrent side. Both cells have the same tree.
Carries are (c, h).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jax_lstm.convert import gates
from jax_lstm.convert.arrays import read_array
from jax_lstm.convert.layers import Cell, each, is_cell, joined, split, with_one_bias, with_two_biases
from jax_lstm.convert.nesting import DIRECTIONS, find_layers
from jax_lstm.convert.recognize import refuse_tree

ENTRIES = {f"i{gate}": {"kernel"} for gate in gates.TORCH} | {f"h{gate}": {"kernel", "bias"} for gate in gates.TORCH}
EXPECTED = "the params of flax.linen's LSTMCell or OptimizedLSTMCell, of an RNN or Bidirectional, or a stack of them"


def from_flax(tree: Any, *, bidirectional: bool = False, dtype: Any = None) -> dict[str, Any]:
    """Reads the params of flax.linen's LSTM cells as a parameter tree of this package.

    Args:
      tree: the params of a cell, of RNN or of Bidirectional; or of a stack: a mapping with numbered names, as
        Sequential's layers_0, layers_1 or a compact module's OptimizedLSTMCell_0, ..., or a list of layers. A variables
        dict is taken for its "params".
      bidirectional: the numbered cells are forward and reverse of a layer in turn, as a compact module names them.
      dtype: dtype to cast to; None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays; one cell without RNN gives the names of layer 0 too. The bias becomes
      bias_ih, and bias_hh is zero. Lossless: :func:`to_flax` gives the same bits back, but a bias of -0 becomes +0.

    Raises:
      ValueError, TypeError: the tree is another library's, lacks a gate, or its layers do not fit one another.
    """
    layers = find_layers(tree, partial(read_cell, dtype=dtype), partial(refuse_tree, "tree", EXPECTED), bidirectional)
    return joined(layers)


def to_flax(params: Mapping[str, Any], *, strict: bool = False) -> dict[str, Any]:
    """Writes an LSTM as flax.linen's params; the other way of :func:`from_flax`.

    Args:
      params: a torch.nn.LSTM state dict with biases and without projection, or a torch.nn.LSTMCell's.
      strict: refuse to fold two biases that are not zero into Flax's one.

    Returns:
      For a cell's names the params of LSTMCell or OptimizedLSTMCell; for one layer those of RNN, {"cell": ...}, or of
      Bidirectional, {"forward_rnn": ..., "backward_rnn": ...}; for several those of Sequential, {"layers_0": ..., ...}.
      Arrays of the kind that came. Not lossless where both biases are not zero: Flax has one, their sum.

    Raises:
      ValueError, TypeError: ``params`` have a projection or no biases, or ``strict`` and two biases.
    """
    layers = each(split(params, "Flax"), partial(write_cell, strict=strict))
    if is_cell(params):
        return layers[0][0]
    wrapped = [wrap(layer) for layer in layers]
    return wrapped[0] if len(wrapped) == 1 else {f"layers_{n}": layer for n, layer in enumerate(wrapped)}


def wrap(layer: tuple[Any, ...]) -> dict[str, Any]:
    """One direction as RNN nests it, two as Bidirectional does."""
    directions = [{"cell": cell} for cell in layer]
    return directions[0] if len(directions) == 1 else dict(zip(DIRECTIONS, directions, strict=True))


def read_cell(tree: Any, dtype: Any, argument: str = "tree") -> Cell | None:
    """A cell of one entry a gate and side; None where the tree has none of these entries."""
    if not isinstance(tree, Mapping) or not tree.keys() & ENTRIES.keys():
        return None
    for name, leaves in ENTRIES.items():
        if name not in tree or not isinstance(tree[name], Mapping) or set(tree[name]) != leaves:
            refuse_tree(argument, f"{EXPECTED}, with {name}/{' and '.join(sorted(leaves))}", tree)
    if len(tree) > len(ENTRIES):
        refuse_tree(argument, f"{EXPECTED}, and nothing beside {', '.join(ENTRIES)}", tree)
    read = lambda name, leaf: read_array(f"{argument}[{name!r}][{leaf!r}]", tree[name][leaf], dtype)
    weight_ih, weight_hh = (gates.fused([read(side + gate, "kernel").T for gate in gates.TORCH]) for side in ("i", "h"))
    return with_two_biases(weight_ih, weight_hh, gates.fused([read("h" + gate, "bias") for gate in gates.TORCH]))


def write_cell(cell: Cell, strict: bool) -> dict[str, Any]:
    inputs, recurrent = (gates.by_gate(cell[name]) for name in ("weight_ih", "weight_hh"))
    bias = gates.by_gate(with_one_bias(cell, "Flax", strict))
    tree: dict[str, Any] = {f"i{gate}": {"kernel": inputs[gate].T} for gate in gates.TORCH}
    return tree | {f"h{gate}": {"kernel": recurrent[gate].T, "bias": bias[gate]} for gate in gates.TORCH}
