"""flax.nnx's LSTMCell and OptimizedLSTMCell, alone, under RNN and Bidirectional, and in stacks.

    LSTMCell            i{gate}.kernel [D, H]     h{gate}.kernel [H, H]     h{gate}.bias [H]     the forget gate's: if_
    OptimizedLSTMCell   dense_i.kernel [D, 4H]    dense_h.kernel [H, 4H]    dense_h.bias [4H]    gates i f g o

Carries are (c, h).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert import flax_linen
from jax_lstm.convert.arrays import read_array
from jax_lstm.convert.layers import Cell, each, is_cell, joined, split, with_one_bias, with_two_biases
from jax_lstm.convert.nesting import find_layers

EXPECTED = (
    "the state of flax.nnx's LSTMCell or OptimizedLSTMCell, of an RNN or Bidirectional, or a stack of them by numbers "
    "0, 1, ..., as nnx.state(module, nnx.Param) gives it"
)
CellName = Literal["LSTMCell", "OptimizedLSTMCell"]
CELLS: tuple[CellName, ...] = get_args(CellName)
GATES = flax_linen.GATES | {"f": ("if_", "hf")}  # `if` is no name for an attribute
FUSED = {"dense_i/kernel", "dense_h/kernel", "dense_h/bias"}


def from_nnx(state: Any, *, bidirectional: bool = False, dtype: Any = None) -> dict[str, Any]:
    """Reads the state of flax.nnx's LSTM cells as a parameter tree of this package.

    Args:
      state: ``nnx.state(module, nnx.Param)``, or the same as plain dicts, of a cell, an RNN, a Bidirectional, or a
        stack of them with numbered entries (nnx.List, nnx.Sequential); or a list of such, one a layer.
      bidirectional, dtype: as in :func:`from_flax`.

    Returns:
      As :func:`from_flax`.

    Raises:
      ValueError, TypeError: as :func:`from_flax`. A state with random keys beside the weights is refused.
    """
    layers = find_layers(
        state, partial(_read_cell, dtype=dtype), partial(refuse_tree, "state", EXPECTED), bidirectional
    )
    return joined(layers)


def to_nnx(params: Mapping[str, Any], cell: CellName = "OptimizedLSTMCell", *, strict: bool = False) -> dict[str, Any]:
    """Writes an LSTM as flax.nnx's state; the other way of :func:`from_nnx`.

    ``nnx.update(module, written)`` puts it into an RNN or a Bidirectional.

    Args:
      params: a torch.nn.LSTM state dict with biases and without projection, or a torch.nn.LSTMCell's.
      cell: "LSTMCell" or "OptimizedLSTMCell": they keep their weights differently.
      strict: refuse a bias_hh that is not zero, which Flax has no place for.

    Returns:
      Plain dicts, nested as :func:`to_flax` nests them; several layers as nnx.Sequential has them,
      {"layers": {0: ..., 1: ...}}. Lossless or not as :func:`to_flax`.

    Raises:
      ValueError, TypeError: ``params`` have a projection or no biases, ``strict``, as above, or unknown ``cell``.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}; got {cell!r}.")
    write = _write_fused if cell == "OptimizedLSTMCell" else partial(flax_linen.write_gates, names=GATES)
    layers = each(split(params, "Flax"), partial(write, strict=strict))
    if is_cell(params):
        return layers[0][0]
    wrapped = [flax_linen.wrap(layer) for layer in layers]
    return wrapped[0] if len(wrapped) == 1 else {"layers": dict(enumerate(wrapped))}


def _read_cell(tree: Any, dtype: Any) -> Cell | None:
    if not isinstance(tree, Mapping) or not {"dense_i", "dense_h"} & set(tree):
        return flax_linen.read_gates(tree, "state", EXPECTED, GATES, dtype)
    flax_linen.check_leaves(tree, FUSED, "state", EXPECTED)
    read = lambda name, leaf: read_array(f"state[{name!r}][{leaf!r}]", tree[name][leaf], dtype)
    return with_two_biases(read("dense_i", "kernel").T, read("dense_h", "kernel").T, read("dense_h", "bias"))


def _write_fused(cell: Cell, strict: bool) -> dict[str, Any]:
    dense_h = {"kernel": cell["weight_hh"].T, "bias": with_one_bias(cell, "Flax", strict)}
    return {"dense_i": {"kernel": cell["weight_ih"].T}, "dense_h": dense_h}
