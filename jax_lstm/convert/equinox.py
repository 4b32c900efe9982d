"""equinox.nn.LSTMCell: torch's order and orientation, one bias or none. Equinox has a cell of one step and no more.

    weight_ih [4H, D]     weight_hh [4H, H]     bias [4H] or None     gates i f g o

States are (h, c).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert.arrays import read_array
from jax_lstm.convert.layers import Cell, each, folded, joined, split, with_two_biases
from jax_lstm.convert.nesting import find_layers

WEIGHTS = {"weight_ih", "weight_hh"}
EXPECTED = "an equinox.nn.LSTMCell, or a mapping of its weight_ih, weight_hh and bias, or a list of them by layer"


def from_equinox(cells: Any, *, bidirectional: bool = False, dtype: Any = None) -> dict[str, Any]:
    """Reads equinox.nn.LSTMCell as a parameter tree of this package.

    Args:
      cells: a cell, as the module or as {"weight_ih", "weight_hh", "bias"}; or a list of cells, one a layer.
      bidirectional: the cells of the list are forward and reverse of a layer in turn.
      dtype: dtype to cast to; None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays. The bias becomes bias_ih, and bias_hh is zero; None means none.
      Lossless: :func:`to_equinox` gives the same bits back.

    Raises:
      ValueError, TypeError: the cells are another library's, lack an array, or do not fit one another.
    """
    refuse = partial(refuse_tree, "cells", EXPECTED)
    return joined(find_layers(cells, partial(_read_cell, dtype=dtype), refuse, bidirectional))


def to_equinox(params: Mapping[str, Any], *, strict: bool = False) -> Any:
    """Writes an LSTM as Equinox's arrays; the other way of :func:`from_equinox`.

    ``equinox.tree_at(lambda c: [getattr(c, name) for name in written], cell, list(written.values()))`` puts them into a
    cell; a bias of None is left out.

    Args:
      params: a torch.nn.LSTM state dict without projection, or a torch.nn.LSTMCell's.
      strict: refuse a bias_hh that is not zero, which Equinox has no place for.

    Returns:
      {"weight_ih", "weight_hh", "bias"} for one layer in one direction, else a list of them: by layer, forward before
      reverse. bias is None where there is none (LSTMCell(..., use_bias=False)). Arrays of the kind that came.
      Lossless where bias_hh is zero; else Equinox's one bias is the sum of both, rounded.

    Raises:
      ValueError, TypeError: ``params`` have a projection, or ``strict``, as above.
    """
    cells = [cell for layer in each(split(params, "Equinox"), partial(_write_cell, strict=strict)) for cell in layer]
    return cells[0] if len(cells) == 1 else cells


def _read_cell(tree: Any, dtype: Any) -> Cell | None:
    entries = tree if isinstance(tree, Mapping) else _arrays_of(tree)
    given = {name: value for name, value in entries.items() if value is not None}
    if not WEIGHTS & set(given):
        return None
    if not WEIGHTS <= set(given) <= WEIGHTS | {"bias"}:
        refuse_tree("cells", EXPECTED, entries)
    arrays = {name: read_array(f"cells.{name}", value, dtype) for name, value in given.items()}
    return with_two_biases(arrays["weight_ih"], arrays["weight_hh"], arrays.get("bias"))


def _arrays_of(module: Any) -> dict[str, Any]:
    return {name: value for name, value in getattr(module, "__dict__", {}).items() if hasattr(value, "shape")}


def _write_cell(cell: Cell, strict: bool) -> dict[str, Any]:
    return {"weight_ih": cell["weight_ih"], "weight_hh": cell["weight_hh"], "bias": folded(cell, "Equinox", strict)}
