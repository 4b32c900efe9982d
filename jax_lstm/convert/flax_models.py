"""Trees of whole Flax models in which this package's cells take the place of Flax's own, and the way back.

    {"LSTMCell_0": <theirs>, "Dense_0": ...}     <->     {"LSTMCell_0": <ours>, "Dense_0": ...}

For models in which :class:`jax_lstm.linen.LSTMCell` or ``nnx.LSTMCell`` replaces Flax's LSTMCell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert.arrays import AnyTree
from jax_lstm.convert.flax_linen import GATES as LINEN_GATES
from jax_lstm.convert.flax_linen import from_flax, to_flax
from jax_lstm.convert.flax_nnx import FUSED, CellName, from_nnx, to_nnx
from jax_lstm.convert.flax_nnx import GATES as NNX_GATES
from jax_lstm.convert.layers import cell, is_cell


def cells_from_flax(tree: AnyTree, *, dtype: DTypeLike | None = None) -> Any:
    """Return a tree with flax.linen's LSTM cells replaced by this package's. The rest of the tree is unchanged.

    Args:
      tree: the params of a model with LSTMCell or OptimizedLSTMCell in it, or of one cell; or a tree of such params,
        as gradients and states of an optimizer are. An optimizer's moments convert like weights: ``bias_hh`` is zero,
        and a cell of this package that is built by ``features`` has no gradient for it.
      dtype: dtype to cast the cells' arrays to; None keeps each array's own.

    Returns:
      The tree with {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} in place of each cell. Lossless.

    Raises:
      ValueError: there is no such cell, or one has misshapen or unknown entries.

    Example:
      >>> variables = {"params": convert.cells_from_flax(theirs["params"])}
    """
    names = {name for pair in LINEN_GATES.values() for name in pair}
    expected = f"a tree with a flax.linen LSTMCell, {', '.join(sorted(names))}, in it"
    is_flax_cell = lambda node: isinstance(node, Mapping) and names <= set(node)
    return _replace(tree, is_flax_cell, lambda node: cell(from_flax(node, dtype=dtype)), expected)


def cells_to_flax(tree: AnyTree, *, strict: bool = False) -> Any:
    """Return a tree with this package's cells replaced by flax.linen's; the inverse of :func:`cells_from_flax`.

    Args:
      tree: any tree with {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} in it.
      strict: refuse a bias_hh that is not zero, which Flax has no place for. It is zero in a cell that was built by
        ``features`` and drawn or read from Flax.

    Returns:
      The tree with flax.linen's entries in place of each cell.

    Raises:
      ValueError, TypeError: there is no such cell; or as :func:`to_flax`.
    """
    return _replace(tree, is_cell, partial(to_flax, strict=strict), OURS)


def cells_from_nnx(state: AnyTree, *, dtype: DTypeLike | None = None) -> Any:
    """Return a state with flax.nnx's LSTM cells replaced by this package's. ``nnx.update`` takes it.

    Args:
      state: ``nnx.state(model, nnx.Param)`` of a model with LSTMCell or OptimizedLSTMCell in it, or the same as plain
        dicts; or a tree of such states.
      dtype: dtype to cast the cells' arrays to; None keeps each array's own.

    Returns:
      As :func:`cells_from_flax`.

    Raises:
      ValueError: as :func:`cells_from_flax`.

    Example:
      >>> nnx.update(model, convert.cells_from_nnx(nnx.state(theirs, nnx.Param)))
    """
    names = {name for pair in NNX_GATES.values() for name in pair}
    expected = f"a tree with a flax.nnx LSTMCell, {', '.join(sorted(names))}, or OptimizedLSTMCell in it"

    def is_flax_cell(node: AnyTree) -> bool:
        return isinstance(node, Mapping) and (names <= set(node) or _leaves(node) >= FUSED)

    return _replace(state, is_flax_cell, lambda node: cell(from_nnx(node, dtype=dtype)), expected)


def cells_to_nnx(state: AnyTree, cell: CellName = "OptimizedLSTMCell", *, strict: bool = False) -> Any:
    """Return a state with this package's cells replaced by flax.nnx's; the inverse of :func:`cells_from_nnx`.

    Args:
      state: any tree with {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} in it.
      cell: "LSTMCell" or "OptimizedLSTMCell", which have different layouts.
      strict: as :func:`cells_to_flax`.

    Returns:
      The tree with flax.nnx's entries in place of each cell.

    Raises:
      ValueError, TypeError: there is no such cell; or as :func:`to_nnx`.
    """
    return _replace(state, is_cell, partial(to_nnx, cell=cell, strict=strict), OURS)


OURS = "a tree with a cell by torch's names, weight_ih, weight_hh, bias_ih and bias_hh, in it"


def _leaves(node: Mapping[Any, AnyTree]) -> set[str]:
    """Return the paths of two levels. They tell an OptimizedLSTMCell from a GRU, whose bias is on the other side."""
    return {f"{name}/{leaf}" for name, entry in node.items() if isinstance(entry, Mapping) for leaf in entry}


def _replace(
    tree: AnyTree, is_cell: Callable[[AnyTree], bool], translate: Callable[[AnyTree], Any], expected: str
) -> Any:
    if not any(map(is_cell, jax.tree.leaves(tree, is_leaf=is_cell))):
        refuse_tree("tree", expected, tree)
    return jax.tree.map(lambda node: translate(node) if is_cell(node) else node, tree, is_leaf=is_cell)
