"""What happens at which step: padding, holes, resets and cuts, for both directions.

A reset and a cut are boundaries between two steps, the same for both directions. The forward direction meets the
boundary between t-1 and t before it processes t, and the reverse direction before it processes t-1. If a boundary is at
a step that does not take place, it lies between the nearest steps around it that do. A boundary after the last step
that takes place has no effect. In the reverse direction, a boundary before the first such step has no effect either.
The state only passes through there.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Listed
from jax_lstm._src.options import Options
from jax_lstm._src.plan import Events
from jax_lstm._src.trees import zeros_like

Flags: TypeAlias = Array | None  # bool [T, *batch or ones, 1]


def find_events(options: Options, steps: Array, time_axis: int) -> tuple[Events, Events, Flags]:
    """Return the events of the forward and of the reverse direction, and the mask of valid steps.

    Args:
      options: with ``lengths``, ``mask``, ``reset`` and ``truncate_every``, all checked.
      steps: ``[T, *batch, D]``.
      time_axis: the axis of time in ``mask`` and ``reset``.
    """
    length, batch_axes = steps.shape[0], steps.ndim - 2
    time = jnp.arange(length, dtype=jnp.int32).reshape(length, *(1,) * (batch_axes + 1))
    valid = _time_major(options.mask, time_axis)
    if options.lengths is not None:
        inside = time < _int32(jnp.asarray(options.lengths))[None, ..., None]
        valid = inside if valid is None else inside & valid
    cut = None
    if options.truncate_every is not None:
        cut = (time % options.truncate_every == 0) & (time > 0)
    reset = _time_major(options.reset, time_axis)
    if options.mask is None:
        resets, cuts = _in_prefix(reset, valid), _in_prefix(cut, valid)
    else:
        resets = _around_holes(reset, valid, counts_before_the_first=True)
        cuts = _around_holes(cut, valid, counts_before_the_first=False)
    forward, backward = (Events(valid, *both) for both in zip(resets, cuts, strict=True))
    return forward, backward, valid


def _time_major(flags: Listed | None, time_axis: int) -> Flags:
    return None if flags is None else jnp.moveaxis(jnp.asarray(flags), time_axis, 0)[..., None]


def _int32(lengths: Array) -> Array:
    """Return lengths of any integer dtype as int32. A length that int32 cannot hold exceeds every sequence anyway."""
    if jnp.iinfo(lengths.dtype).max > jnp.iinfo(jnp.int32).max:
        lengths = jnp.clip(lengths, 0, jnp.iinfo(jnp.int32).max)
    return lengths.astype(jnp.int32)


def _in_prefix(boundary: Flags, valid: Flags) -> tuple[Flags, Flags]:
    """Return the boundary as each direction meets it, if the valid steps of a row are its first ones."""
    if boundary is None:
        return None, None
    if valid is not None:
        boundary = boundary & valid
    return boundary, jnp.concatenate((boundary[1:], zeros_like(boundary[:1])))


def _around_holes(boundary: Flags, valid: Flags, *, counts_before_the_first: bool) -> tuple[Flags, Flags]:
    """Return the boundary as each direction meets it, if any step of a row may be a hole.

    The segment of a step is the number of boundaries up to it. A valid step meets a boundary if its segment differs
    from the segment of the valid step that its direction processes before it. The forward direction starts in segment
    0 if a boundary before the first valid step counts. A reset there counts, since an episode begins. A cut there does
    not count, since there is no earlier step to cut off.
    """
    if boundary is None:
        return None, None
    assert valid is not None
    segment = jnp.cumsum(boundary, axis=0, dtype=jnp.int32)
    beyond = segment.shape[0] + 1
    before = jax.lax.cummax(jnp.where(valid, segment, 0), axis=0)
    after = jax.lax.cummin(jnp.where(valid, segment, beyond), axis=0, reverse=True)
    before = jnp.concatenate((zeros_like(before[:1]), before[:-1]))
    after = jnp.concatenate((after[1:], zeros_like(after[:1]) + beyond))
    forward = valid & (segment != before)
    if not counts_before_the_first:
        so_far = jax.lax.cummax(valid.astype(jnp.int32), axis=0)
        forward &= jnp.concatenate((zeros_like(so_far[:1]), so_far[:-1])) > 0  # a valid step came earlier
    return forward, valid & (segment != after) & (after != beyond)
