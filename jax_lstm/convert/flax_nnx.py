"""flax.nnx's LSTMCell and OptimizedLSTMCell, alone, under RNN and Bidirectional, and in stacks.

    LSTMCell            i{gate}.kernel [D, H]     h{gate}.kernel [H, H]     h{gate}.bias [H]     the forget gate's: if_
    OptimizedLSTMCell   dense_i.kernel [D, 4H]    dense_h.kernel [H, 4H]    dense_h.bias [4H]    gates i f g o

Carries are (c, h).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jax_lstm.convert import flax_linen
from jax_lstm.convert.arrays import read_array
from jax_lstm.convert.layers import Cell, each, is_cell, joined, split, with_one_bias, with_two_biases
from jax_lstm.convert.nesting import find_layers
from jax_lstm.convert.recognize import refuse_tree

EXPECTED = "the state of flax.nnx's LSTMCell or OptimizedLSTMCell, of an RNN or Bidirectional, or a stack of them"
CELLS = ("LSTMCell", "OptimizedLSTMCell")
RENAMED = {"if_": "if"}  # `if` is no name for an attribute


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
    refuse = partial(refuse_tree, "state", EXPECTED + " (nnx.state(module, nnx.Param))")
    return joined(find_layers(state, partial(_read_cell, dtype=dtype), refuse, bidirectional))


def to_nnx(params: Mapping[str, Any], cell: str = "OptimizedLSTMCell", *, strict: bool = False) -> dict[str, Any]:
    """Writes an LSTM as flax.nnx's state; the other way of :func:`from_nnx`.

    ``nnx.update(module, written)`` puts it into an RNN or a Bidirectional.

    Args:
      params: a torch.nn.LSTM state dict with biases and without projection, or a torch.nn.LSTMCell's.
      cell: "LSTMCell" or "OptimizedLSTMCell": they keep their weights differently.
      strict: refuse to fold two biases that are not zero into Flax's one.

    Returns:
      Plain dicts, nested as :func:`to_flax` nests them; several layers as nnx.Sequential has them,
      {"layers": {0: ..., 1: ...}}. Not lossless where both biases are not zero.

    Raises:
      ValueError, TypeError: ``params`` have a projection or no biases, ``strict`` and two biases, or unknown ``cell``.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}; got {cell!r}.")
    write = _write_fused if cell == "OptimizedLSTMCell" else _write_gates
    layers = each(split(params, "Flax"), partial(write, strict=strict))
    if is_cell(params):
        return layers[0][0]
    wrapped = [flax_linen.wrap(layer) for layer in layers]
    return wrapped[0] if len(wrapped) == 1 else {"layers": dict(enumerate(wrapped))}


def _read_cell(tree: Any, dtype: Any) -> Cell | None:
    if not isinstance(tree, Mapping):
        return None
    if "if" not in tree and any(name in tree for name in RENAMED):
        tree = {RENAMED.get(name, name): entry for name, entry in tree.items()}
        return flax_linen.read_cell(tree, dtype, "state")
    if not tree.keys() & {"dense_i", "dense_h"}:
        return None
    leaves = {name: set(entry) for name, entry in tree.items() if isinstance(entry, Mapping)}
    if len(tree) != 2 or leaves != {"dense_i": {"kernel"}, "dense_h": {"kernel", "bias"}}:
        refuse_tree("state", f"{EXPECTED}, with dense_i/kernel, dense_h/kernel and dense_h/bias", tree)
    read = lambda name, leaf: read_array(f"state[{name!r}][{leaf!r}]", tree[name][leaf], dtype)
    return with_two_biases(read("dense_i", "kernel").T, read("dense_h", "kernel").T, read("dense_h", "bias"))


def _write_fused(cell: Cell, strict: bool) -> dict[str, Any]:
    dense_h = {"kernel": cell["weight_hh"].T, "bias": with_one_bias(cell, "Flax", strict)}
    return {"dense_i": {"kernel": cell["weight_ih"].T}, "dense_h": dense_h}


def _write_gates(cell: Cell, strict: bool) -> dict[str, Any]:
    renamed = {new: old for old, new in RENAMED.items()}
    return {renamed.get(name, name): entry for name, entry in flax_linen.write_cell(cell, strict).items()}
