"""Flax's cells replaced where they stand in the tree of a whole model, and the other way.

    {"LSTMCell_0": <theirs>, "Dense_0": ...}     <->     {"LSTMCell_0": <ours>, "Dense_0": ...}

For models in which :class:`jax_lstm.linen.LSTMCell` or ``nnx.LSTMCell`` takes the place of Flax's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert.flax_linen import GATES as LINEN_GATES
from jax_lstm.convert.flax_linen import from_flax, to_flax
from jax_lstm.convert.flax_nnx import FUSED, CellName, from_nnx, to_nnx
from jax_lstm.convert.flax_nnx import GATES as NNX_GATES
from jax_lstm.convert.layers import cell, is_cell


def cells_from_flax(tree: Any, *, dtype: Any = None) -> Any:
    """A tree in which flax.linen's LSTM cells are replaced by ours, wherever they stand; the rest is left as it is.

    Args:
      tree: the params of a model with LSTMCell or OptimizedLSTMCell in it, or of one cell; or a tree made of such, as
        gradients and the states of an optimizer are: their moments go over like weights, since ``bias_hh`` is zero and
        a cell of ours that is built by ``features`` gives it no gradient.
      dtype: dtype to cast the cells' arrays to; None keeps each array's own.

    Returns:
      The tree with {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} in place of each cell. Lossless.

    Raises:
      ValueError: there is no such cell, or one has entries that are misshapen or unknown.
    """
    names = {name for pair in LINEN_GATES.values() for name in pair}
    expected = f"a tree with a flax.linen LSTMCell, {', '.join(sorted(names))}, in it"
    is_theirs = lambda node: isinstance(node, Mapping) and names <= set(node)
    return _replaced(tree, is_theirs, lambda node: cell(from_flax(node, dtype=dtype)), expected)


def cells_to_flax(tree: Any, *, strict: bool = False) -> Any:
    """The other way of :func:`cells_from_flax`: every cell by our names as flax.linen's cells have it.

    Args:
      tree: any tree with {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} in it.
      strict: refuse a bias_hh that is not zero, which Flax has no place for. A cell that was built by ``features`` and
        drawn or read from Flax has none.

    Raises:
      ValueError, TypeError: there is no such cell, or as :func:`to_flax`.
    """
    return _replaced(tree, is_cell, partial(to_flax, strict=strict), OURS)


def cells_from_nnx(state: Any, *, dtype: Any = None) -> Any:
    """As :func:`cells_from_flax` for flax.nnx's LSTMCell and OptimizedLSTMCell; ``nnx.update`` takes what it gives.

    Args:
      state: ``nnx.state(model, nnx.Param)``, or the same as plain dicts; or a tree made of such.
      dtype: as there.
    """
    gates = {name for pair in NNX_GATES.values() for name in pair}
    expected = f"a tree with a flax.nnx LSTMCell, {', '.join(sorted(gates))}, or OptimizedLSTMCell in it"

    def is_theirs(node: Any) -> bool:
        return isinstance(node, Mapping) and (gates <= set(node) or _leaves(node) >= FUSED)

    return _replaced(state, is_theirs, lambda node: cell(from_nnx(node, dtype=dtype)), expected)


def cells_to_nnx(state: Any, cell: CellName = "OptimizedLSTMCell", *, strict: bool = False) -> Any:
    """The other way of :func:`cells_from_nnx`; arguments as :func:`cells_to_flax`, ``cell`` as :func:`to_nnx`."""
    return _replaced(state, is_cell, partial(to_nnx, cell=cell, strict=strict), OURS)


OURS = "a tree with a cell by torch's names, weight_ih, weight_hh, bias_ih and bias_hh, in it"


def _leaves(node: Mapping[Any, Any]) -> set[str]:
    """The paths of two levels; a GRU's tell it from an OptimizedLSTMCell, since its bias is on the other side."""
    return {f"{name}/{leaf}" for name, entry in node.items() if isinstance(entry, Mapping) for leaf in entry}


def _replaced(tree: Any, is_cell: Callable[[Any], bool], translate: Callable[[Any], Any], expected: str) -> Any:
    if not any(map(is_cell, jax.tree.leaves(tree, is_leaf=is_cell))):
        refuse_tree("tree", expected, tree)
    return jax.tree.map(lambda node: translate(node) if is_cell(node) else node, tree, is_leaf=is_cell)
