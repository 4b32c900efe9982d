"""flax.nnx's LSTMCell and OptimizedLSTMCell: single cells, under RNN and Bidirectional, and in stacks.

    LSTMCell            i{gate}.kernel [D, H]     h{gate}.kernel [H, H]     h{gate}.bias [H]     the forget gate's: if_
    OptimizedLSTMCell   dense_i.kernel [D, 4H]    dense_h.kernel [H, 4H]    dense_h.bias [4H]    gates i f g o

Carries are (c, h).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert import flax_linen, gates
from jax_lstm.convert.arrays import AnyTree, Array, Params, read_array
from jax_lstm.convert.layers import CellWeights, is_cell, join_layers, make_cell, map_cells, required_bias, split_layers
from jax_lstm.convert.nesting import find_layers

EXPECTED = (
    "the state of flax.nnx's LSTMCell or OptimizedLSTMCell, of an RNN or Bidirectional, or a stack of them by numbers "
    "0, 1, ..., as nnx.state(module, nnx.Param) gives it"
)
CellName = Literal["LSTMCell", "OptimizedLSTMCell"]
CELLS: tuple[CellName, ...] = get_args(CellName)
GATES = {**flax_linen.GATES, "f": ("if_", "hf")}  # `if` is no name for an attribute
FUSED = {"dense_i/kernel", "dense_h/kernel", "dense_h/bias"}
ORDER = "ifgo"  # OptimizedLSTMCell's


def from_nnx(state: AnyTree, *, bidirectional: bool = False, dtype: DTypeLike | None = None) -> Params:
    """Read the state of flax.nnx's LSTM cells as a parameter tree of this package.

    The conversion is lossless unless `dtype` is narrower: `jax_lstm.convert.to_nnx` returns the same bits.

    Args:
      state: `nnx.state(module, nnx.Param)`, or the same as plain dicts, of a cell, an RNN, a Bidirectional, or a stack
        of them with numbered entries (nnx.List, nnx.Sequential). It may also be a list of such states, one per layer.
      bidirectional: whether the numbered cells are two per layer, forward before reverse.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays. A single cell without RNN becomes layer 0 too. The bias becomes
      `bias_ih`, and `bias_hh` is zero.

    Raises:
      TypeError: a leaf is not a floating-point array that JAX can read.
      ValueError: the state is another library's, lacks a gate or has random keys beside the weights, or its layers do
        not fit one another.

    Examples:
      >>> from flax import nnx
      >>> from jax_lstm import convert
      >>> module = nnx.RNN(nnx.OptimizedLSTMCell(3, 5, rngs=nnx.Rngs(0)))
      >>> params = convert.from_nnx(nnx.state(module, nnx.Param))
      >>> params["weight_ih_l0"].shape
      (20, 3)
    """
    refuse = partial(refuse_tree, "state", EXPECTED)
    return join_layers(find_layers(state, partial(_read_cell, dtype=dtype), refuse, bidirectional))


def to_nnx(
    params: Mapping[str, Array], cell: CellName = "OptimizedLSTMCell", *, strict: bool = False
) -> dict[str, Any]:
    """Write an LSTM as flax.nnx's state; the inverse of `jax_lstm.convert.from_nnx`.

    The conversion is lossless if `bias_hh` is zero. Otherwise Flax's one bias is the sum of both, rounded.

    Args:
      params: a torch.nn.LSTM state dict with biases and without projection, or a torch.nn.LSTMCell's.
      cell: "LSTMCell" or "OptimizedLSTMCell", which have different layouts.
      strict: refuse a `bias_hh` that is not zero, for which Flax has no place.

    Returns:
      Plain dicts, which `nnx.update` takes. A cell's are those of `cell`. One layer's are those of RNN,
      `{"cell": ...}`, or of Bidirectional, `{"forward_rnn": ..., "backward_rnn": ...}`. Those of several layers are
      nnx.Sequential's, `{"layers": {0: ..., 1: ...}}`. Arrays are NumPy's or jax's, like those of `params`.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, it has a projection or no biases, `strict` refuses it,
        or `cell` is unknown.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> module = nnx.RNN(nnx.OptimizedLSTMCell(3, 5, rngs=nnx.Rngs(0)))
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
      >>> nnx.update(module, jax_lstm.convert.to_nnx(params))
      >>> module(jnp.zeros((2, 7, 3))).shape
      (2, 7, 5)
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}; got {cell!r}.")
    write = _write_fused if cell == "OptimizedLSTMCell" else partial(flax_linen.write_gates, names=GATES)
    layers = map_cells(split_layers(params, "Flax"), partial(write, strict=strict))
    if is_cell(params):
        return layers[0][0]
    wrapped = [flax_linen.wrap(layer) for layer in layers]
    return wrapped[0] if len(wrapped) == 1 else {"layers": dict(enumerate(wrapped))}


def _read_cell(tree: AnyTree, dtype: DTypeLike | None) -> CellWeights | None:
    if not isinstance(tree, Mapping) or not {"dense_i", "dense_h"} & set(tree):
        return flax_linen.read_gates(tree, "state", EXPECTED, GATES, dtype)
    flax_linen.check_leaves(tree, FUSED, "state", EXPECTED)

    def read(name: str, leaf: str) -> Array:
        return gates.reorder(read_array(f"state[{name!r}][{leaf!r}]", tree[name][leaf], dtype).T, ORDER, gates.TORCH)

    return make_cell(read("dense_i", "kernel"), read("dense_h", "kernel"), read("dense_h", "bias"))


def _write_fused(cell: CellWeights, strict: bool) -> dict[str, Any]:
    order = partial(gates.reorder, stored=gates.TORCH, wanted=ORDER)
    dense_h = {"kernel": order(cell["weight_hh"]).T, "bias": order(required_bias(cell, "Flax", strict))}
    return {"dense_i": {"kernel": order(cell["weight_ih"]).T}, "dense_h": dense_h}
