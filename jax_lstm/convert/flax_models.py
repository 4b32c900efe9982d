"""Trees of whole Flax models in which this package's cells take the place of Flax's own, and the way back.

    {"LSTMCell_0": <theirs>, "Dense_0": ...}     <->     {"LSTMCell_0": <ours>, "Dense_0": ...}

They serve a model in which `jax_lstm.linen.LSTMCell` or `jax_lstm.nnx.LSTMCell` replaces Flax's LSTMCell.
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

    The conversion is lossless unless `dtype` is narrower.

    Args:
      tree: the params of a model that contains LSTMCell or OptimizedLSTMCell, or of one cell. It may also be a tree of
        such params, such as gradients or the state of an optimizer. An optimizer's moments convert like weights:
        `bias_hh` is zero, and a cell of this package that is built by `features` has no gradient for it.
      dtype: the dtype to cast the cells' arrays to. None keeps each array's own.

    Returns:
      The tree with `{"weight_ih": ..., "weight_hh": ..., "bias_ih": ..., "bias_hh": ...}` in place of each cell, as jax
      arrays.

    Raises:
      TypeError: an entry of a cell is not a floating-point array that JAX can read.
      ValueError: there is no such cell, or one has misshapen or unknown entries.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jax_lstm import convert
      >>> cell = nn.OptimizedLSTMCell(5)
      >>> carry = cell.initialize_carry(jax.random.key(0), (2, 3))
      >>> theirs = {"encoder": cell.init(jax.random.key(0), carry, jnp.zeros((2, 3)))["params"]}
      >>> list(convert.cells_from_flax(theirs)["encoder"])
      ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh']
    """
    names = {name for pair in LINEN_GATES.values() for name in pair}
    expected = f"a tree with a flax.linen LSTMCell, {', '.join(sorted(names))}, in it"
    is_flax_cell = lambda node: isinstance(node, Mapping) and names <= set(node)
    return _replace(tree, is_flax_cell, lambda node: cell(from_flax(node, dtype=dtype)), expected)


def cells_to_flax(tree: AnyTree, *, strict: bool = False) -> Any:
    """Return a tree with this package's LSTM cells replaced by flax.linen's. The rest of the tree is unchanged.

    This is the inverse of `jax_lstm.convert.cells_from_flax`. It is lossless if every `bias_hh` is zero. Otherwise
    Flax's one bias is the sum of both, rounded.

    Args:
      tree: any tree that contains cells, each a mapping of `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`.
      strict: refuse a `bias_hh` that is not zero, for which Flax has no place. It is zero in a cell that was built by
        `features` and drawn or read from Flax.

    Returns:
      The tree with flax.linen's entries in place of each cell. Arrays are NumPy's or jax's, like those of the cell.

    Raises:
      TypeError: an entry of a cell is not a floating-point array.
      ValueError: there is no such cell, one is misshapen, has a projection or no biases, or `strict` refuses it.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> from jax_lstm import convert
      >>> ours = {"encoder": convert.cell(jax_lstm.init_lstm(jax.random.key(0), 3, 5))}
      >>> sorted(convert.cells_to_flax(ours)["encoder"])
      ['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io']
    """
    return _replace(tree, is_cell, partial(to_flax, strict=strict), OURS)


def cells_from_nnx(state: AnyTree, *, dtype: DTypeLike | None = None) -> Any:
    """Return a state with flax.nnx's LSTM cells replaced by this package's. `nnx.update` takes it.

    The conversion is lossless unless `dtype` is narrower.

    Args:
      state: `nnx.state(model, nnx.Param)` of a model that contains LSTMCell or OptimizedLSTMCell, the same as plain
        dicts, or a tree of such states.
      dtype: the dtype to cast the cells' arrays to. None keeps each array's own.

    Returns:
      The state with `{"weight_ih": ..., "weight_hh": ..., "bias_ih": ..., "bias_hh": ...}` in place of each cell, as
      jax arrays.

    Raises:
      TypeError: an entry of a cell is not a floating-point array that JAX can read.
      ValueError: there is no such cell, or one has misshapen or unknown entries.

    Examples:
      >>> from flax import nnx
      >>> from jax_lstm import convert
      >>> theirs = nnx.Dict(encoder=nnx.OptimizedLSTMCell(3, 5, rngs=nnx.Rngs(0)))
      >>> state = convert.cells_from_nnx(nnx.state(theirs, nnx.Param))
      >>> list(state["encoder"])
      ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh']
    """
    names = {name for pair in NNX_GATES.values() for name in pair}
    expected = f"a tree with a flax.nnx LSTMCell, {', '.join(sorted(names))}, or OptimizedLSTMCell in it"

    def is_flax_cell(node: AnyTree) -> bool:
        return isinstance(node, Mapping) and (names <= set(node) or _leaves(node) >= FUSED)

    return _replace(state, is_flax_cell, lambda node: cell(from_nnx(node, dtype=dtype)), expected)


def cells_to_nnx(state: AnyTree, cell: CellName = "OptimizedLSTMCell", *, strict: bool = False) -> Any:
    """Return a state with this package's LSTM cells replaced by flax.nnx's. The rest of the state is unchanged.

    This is the inverse of `jax_lstm.convert.cells_from_nnx`. It is lossless if every `bias_hh` is zero. Otherwise
    Flax's one bias is the sum of both, rounded.

    Args:
      state: any tree that contains cells, each a mapping of `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`.
      cell: "LSTMCell" or "OptimizedLSTMCell", which have different layouts.
      strict: refuse a `bias_hh` that is not zero, for which Flax has no place. It is zero in a cell that was built by
        `features` and drawn or read from Flax.

    Returns:
      The tree with flax.nnx's entries in place of each cell. Arrays are NumPy's or jax's, like those of the cell.

    Raises:
      TypeError: an entry of a cell is not a floating-point array.
      ValueError: there is no such cell, one is misshapen, has a projection or no biases, `strict` refuses it, or `cell`
        is unknown.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> from jax_lstm import convert
      >>> ours = {"encoder": convert.cell(jax_lstm.init_lstm(jax.random.key(0), 3, 5))}
      >>> list(convert.cells_to_nnx(ours)["encoder"])
      ['dense_i', 'dense_h']
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
