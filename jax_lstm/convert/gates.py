"""The gates of a fused array in another library's order. An order is a string of i, f, g and o; g is the candidate."""

from __future__ import annotations

from collections.abc import Sequence

from jax_lstm._src.cell import GATE_ORDER
from jax_lstm.convert.arrays import Array, namespace

TORCH = "".join(GATE_ORDER)


def reorder(a: Array, stored: str, wanted: str, axis: int = 0) -> Array:
    """Return ``a`` with its four blocks along ``axis`` in the order ``wanted``; ``stored`` is the order they have."""
    if stored == wanted:
        return a
    xp = namespace(a)
    blocks = dict(zip(stored, xp.split(a, len(stored), axis), strict=True))
    return xp.concatenate([blocks[gate] for gate in wanted], axis)


def split_gates(a: Array) -> dict[str, Array]:
    """Return the blocks along the first axis of an array in torch's order, by gate."""
    return dict(zip(TORCH, namespace(a).split(a, len(TORCH)), strict=True))


def join_gates(blocks: Sequence[Array]) -> Array:
    """Return one array of four blocks, which come in torch's order."""
    return namespace(*blocks).concatenate(blocks)
