"""equinox.nn.LSTMCell: torch's orientation, one bias or none. Equinox has only a cell that computes one step.

    weight_ih [4H, D]     weight_hh [4H, H]     bias [4H] or None     gates i f g o

States are (h, c).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert import gates
from jax_lstm.convert.arrays import AnyTree, Array, Params, read_array
from jax_lstm.convert.layers import CellWeights, folded_bias, join_layers, make_cell, map_cells, split_layers
from jax_lstm.convert.nesting import find_layers

ORDER = "ifgo"
WEIGHTS = {"weight_ih", "weight_hh"}
EXPECTED = "an equinox.nn.LSTMCell, or a mapping of its weight_ih, weight_hh and bias, or a list of them by layer"


def from_equinox(cells: AnyTree, *, bidirectional: bool = False, dtype: DTypeLike | None = None) -> Params:
    """Read equinox.nn.LSTMCell as a parameter tree of this package.

    The conversion is lossless unless `dtype` is narrower: `jax_lstm.convert.to_equinox` returns the same bits.

    Args:
      cells: a cell, or a list of cells with one per layer. A cell is the module, or a mapping of its arrays
        `weight_ih` `[4H, D]`, `weight_hh` `[4H, H]` and `bias` `[4H]`.
      bidirectional: whether the list has two cells per layer, forward before reverse.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays. The bias becomes `bias_ih`, and `bias_hh` is zero. If the bias is None,
      the state dict has no biases.

    Raises:
      TypeError: an array is not a floating-point array that JAX can read.
      ValueError: the cells are another library's, lack an array, or do not fit one another.

    Examples:
      The mapping has the arrays of `equinox.nn.LSTMCell(3, 5, key=key)`.

      >>> import numpy as np
      >>> from jax_lstm import convert
      >>> shapes = {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias": (20,)}
      >>> params = convert.from_equinox({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
      >>> list(params)
      ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """
    refuse = partial(refuse_tree, "cells", EXPECTED)
    return join_layers(find_layers(cells, partial(_read_cell, dtype=dtype), refuse, bidirectional))


def to_equinox(params: Mapping[str, Array], *, strict: bool = False) -> Any:
    """Write an LSTM as Equinox's arrays; the inverse of `jax_lstm.convert.from_equinox`.

    The conversion is lossless if `bias_hh` is zero. Otherwise Equinox's one bias is the sum of both, rounded.

    Args:
      params: a torch.nn.LSTM state dict without projection, or a torch.nn.LSTMCell's.
      strict: refuse a `bias_hh` that is not zero, for which Equinox has no place.

    Returns:
      A dict `{"weight_ih": ..., "weight_hh": ..., "bias": ...}` for one layer in one direction. Otherwise a list of
      such dicts, layer by layer, forward before reverse. `bias` is None if there are no biases, as in
      `equinox.nn.LSTMCell(..., use_bias=False)`. Arrays are NumPy's or jax's, like those of `params`.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, it has a projection, or `strict` refuses it.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> arrays = jax_lstm.convert.to_equinox(jax_lstm.init_lstm(jax.random.key(0), 3, 5))
      >>> {name: array.shape for name, array in arrays.items()}
      {'weight_ih': (20, 3), 'weight_hh': (20, 5), 'bias': (20,)}

      `equinox.tree_at` puts the arrays into a cell. If the bias is None, leave it out of the names:
      `equinox.tree_at(lambda c: [getattr(c, name) for name in arrays], cell, list(arrays.values()))`.
    """
    layers = map_cells(split_layers(params, "Equinox"), partial(_write_cell, strict=strict))
    cells = [cell for layer in layers for cell in layer]
    return cells[0] if len(cells) == 1 else cells


def _read_cell(tree: AnyTree, dtype: DTypeLike | None) -> CellWeights | None:
    entries = tree if isinstance(tree, Mapping) else _arrays_of(tree)
    given = {name: value for name, value in entries.items() if value is not None}
    if not WEIGHTS & set(given):
        return None
    if not WEIGHTS <= set(given) <= WEIGHTS | {"bias"}:
        refuse_tree("cells", EXPECTED, entries)
    stored = {name: read_array(f"cells.{name}", value, dtype) for name, value in given.items()}
    arrays = {name: gates.reorder(a, ORDER, gates.TORCH) for name, a in stored.items()}
    return make_cell(arrays["weight_ih"], arrays["weight_hh"], arrays.get("bias"))


def _arrays_of(module: Any) -> dict[str, Any]:
    return {name: value for name, value in getattr(module, "__dict__", {}).items() if hasattr(value, "shape")}


def _write_cell(cell: CellWeights, strict: bool) -> dict[str, Array | None]:
    order = partial(gates.reorder, stored=gates.TORCH, wanted=ORDER)
    bias = folded_bias(cell, "Equinox", strict)
    weights: dict[str, Array | None] = {name: order(cell[name]) for name in ("weight_ih", "weight_hh")}
    return weights | {"bias": None if bias is None else order(bias)}
