"""The gates of a fused array, in another library's order. Orders are strings of i, f, g and o; g is the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax_lstm._src.cell import GATE_ORDER
from jax_lstm.convert.arrays import namespace

TORCH = "".join(GATE_ORDER)


def reordered(a: Any, stored: str, wanted: str, axis: int = 0) -> Any:
    """``a`` with its four blocks along ``axis``, which are in the order ``stored``, in the order ``wanted``."""
    if stored == wanted:
        return a
    xp = namespace(a)
    blocks = dict(zip(stored, xp.split(a, len(stored), axis), strict=True))
    return xp.concatenate([blocks[gate] for gate in wanted], axis)


def by_gate(a: Any) -> dict[str, Any]:
    """The blocks of an array in torch's order along its first axis, by gate."""
    return dict(zip(TORCH, namespace(a).split(a, len(TORCH)), strict=True))


def fused(blocks: Sequence[Any]) -> Any:
    """One array of the blocks of i, f, g and o."""
    return namespace(*blocks).concatenate(blocks)
