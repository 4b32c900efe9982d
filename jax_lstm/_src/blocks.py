"""Loops over blocks of time steps: what a block makes for itself is as large as the block, and stays in the cache."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

CACHED = 2**20  # bytes of a block's gate sums: they stay in a core's cache
FEWEST = 16  # blocks in a long sequence, so that a block's memory is small beside the sequence's
SHORTEST = 8  # steps in a block, or the loop over blocks would cost more than it saves


def block_steps(steps: int, sums: tuple[int, ...]) -> int:
    """Steps in a block where one step's gate sums have shape ``sums``.

    On accelerators the whole sequence is one block: their products want to be large, and no cache is that large. So
    it is where a size is symbolic, as under jax.export.
    """
    if jax.default_backend() != "cpu" or not are_known(steps, *sums):
        return steps
    wanted = min(CACHED // max(4 * math.prod(sums), 1), steps // FEWEST)
    return near_divisor(steps, max(wanted, SHORTEST))


def are_known(*sizes) -> bool:
    """Whether sizes are numbers, and not symbols of jax.export."""
    return all(isinstance(size, int) for size in sizes)


def near_divisor(steps: int, wanted: int) -> int:
    """The divisor of ``steps`` nearest to ``wanted``, if there is one within a factor of two; else ``wanted``."""
    if wanted >= steps:
        return steps
    near = [n for n in range(wanted // 2, 2 * wanted + 1) if n and steps % n == 0]
    return min(near, key=lambda n: abs(math.log(n / wanted)), default=wanted)


def over_blocks(size, body, carry, xs, *, reverse):
    """``body(carry, xs) -> (carry, ys)`` on blocks of ``size`` steps from step 0; the last block may be shorter.

    As jax.lax.scan, with all of a block's steps at once: ``xs`` and ``ys`` have time as their first axis.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    if size >= length:
        return body(carry, xs)
    whole = length // size * size
    parts, rest = _split(xs, whole, size)
    many = lambda carry: jax.lax.scan(body, carry, parts, reverse=reverse)
    if whole == length:
        carry, ys = many(carry)
        return carry, _merged(ys)
    if reverse:
        carry, late = body(carry, rest)
        carry, early = many(carry)
    else:
        carry, early = many(carry)
        carry, late = body(carry, rest)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate((a, b)), _merged(early), late)


def rewrite_blocks(size, body, carry, buffer, xs, *, reverse):
    """As :func:`over_blocks` with ``body(carry, block, xs) -> (carry, block, ys)``, which rewrites ``buffer`` in place.

    ``buffer [T, ...]`` is read one block at a time, and its new content is written where the old one was. So the loop
    needs memory for one of the two; XLA sees that nothing else of it is read.
    """
    length = buffer.shape[0]
    if size >= length:
        return body(carry, buffer, xs)

    def step(state, at):
        carry, buffer = state
        times, xs = at
        block = jax.lax.dynamic_slice_in_dim(buffer, times[0], len(times))
        carry, block, ys = body(carry, block, xs)
        return (carry, jax.lax.dynamic_update_slice_in_dim(buffer, block, times[0], 0)), ys

    (carry, buffer), ys = over_blocks(size, step, (carry, buffer), (jnp.arange(length), xs), reverse=reverse)
    return carry, buffer, ys


def _split(xs, whole, size):
    parts = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), xs)
    return parts, jax.tree.map(lambda a: a[whole:], xs)


def _merged(parts):
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), parts)
