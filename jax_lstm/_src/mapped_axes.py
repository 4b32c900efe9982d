"""vmap of a call that takes any number of batch axes: the mapped axis becomes one more of them.

A call says for each of its arguments where the first batch axis is, or None for an array without a batch, such as a
weight. If no array without a batch is mapped, the mapped call is the same call on one more batch axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array

Places = tuple[int | None, ...]  # the places of the first batch axis


def places_of_leaves(places: Places, trees: Sequence[Any]) -> Places:
    """Return the place in each array of the trees, from that of each tree."""
    return tuple(place for place, tree in zip(places, trees, strict=True) for _ in jax.tree.leaves(tree))


def as_batch_axis(args: Sequence[Array], axes: Sequence[int | None], places: Places) -> list[Array] | None:
    """Return the arrays with their mapped ``axes`` as a batch axis.

    Return None if an array without a batch is mapped, or if the mapped axis is empty.
    """
    if any(axis is not None and place is None for axis, place in zip(axes, places, strict=True)):
        return None
    (size,) = {a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None}
    if size == 0:
        return None

    def moved(a: Array, axis: int | None, place: int | None) -> Array:
        if place is None:
            return a
        if axis is not None:
            return jnp.moveaxis(a, axis, place)
        return jnp.broadcast_to(jnp.expand_dims(a, place), (*a.shape[:place], size, *a.shape[place:]))

    return list(map(moved, args, axes, places))
