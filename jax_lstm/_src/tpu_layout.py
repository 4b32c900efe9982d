"""The shared parts of the kernels of a TPU: the blocks of steps that they run over, and the padding of their arrays.

Padded rows and units are computed and cut off. Their states stay finite: a padded unit has weights of zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jax_lstm._src.arrays import Array, DTypeLike
from jax_lstm._src.cell import Cell
from jax_lstm._src.tpu_memory import LANES, Memory, Tiles, block_steps

SMALL_STEP = 8192  # numbers of h in one step: the compiler schedules fewer instructions if it sees four steps at once


class Grid(NamedTuple):
    """The blocks of time steps that a kernel runs over, one after another.

    steps: steps of the whole sequence.
    block: steps of one block. The last block of the sequence may be shorter.
    unroll: steps per iteration of the loop inside a block.
    backward: whether the kernel runs from the last step to the first.
    """

    steps: int
    block: int
    unroll: int
    backward: bool

    @classmethod
    def of(cls, steps: int, tiles: Tiles, memory: Memory, unroll: int, backward: bool) -> Grid:
        """Return the blocks that fit into VMEM."""
        unroll = max(unroll, 4 if tiles.batch * tiles.hidden <= SMALL_STEP else 1)
        return cls(steps, block_steps(steps, memory.most_steps, unroll), unroll, backward)

    @property
    def length(self) -> int:
        """Return the number of blocks."""
        return pl.cdiv(self.steps, self.block)

    def spec(self, batch: int, width: int) -> pl.BlockSpec:
        """Return the blocks of an array ``[steps, batch, width]``."""
        return pl.BlockSpec((self.block, batch, width), lambda n: (self._block(n), 0, 0))

    def is_first(self) -> Any:
        """Return, inside a kernel, whether this block is the first that it runs."""
        return pl.program_id(0) == 0

    def is_last(self) -> Any:
        """Return, inside a kernel, whether this block is the last that it runs."""
        return pl.program_id(0) == self.length - 1

    def run(self, step: Callable[[Any], None]) -> None:
        """Call ``step(t)``, inside a kernel, with each step of this block."""
        rest = self.steps % self.block
        if not rest:
            self._run(step, self.block)
            return
        is_shorter = self._block(pl.program_id(0)) == self.length - 1
        pl.when(is_shorter)(lambda: self._run(step, rest))
        pl.when(~is_shorter)(lambda: self._run(step, self.block))

    def _run(self, step: Callable[[Any], None], count: int) -> None:
        at = lambda n, _: step(count - 1 - n if self.backward else n)
        together = count - count % self.unroll
        if together:
            jax.lax.fori_loop(0, together, at, None, unroll=self.unroll)
        if together < count:
            jax.lax.fori_loop(together, count, at, None)

    def _block(self, n: Any) -> Any:
        return self.length - 1 - n if self.backward else n


class Fixed(NamedTuple):
    """The fixed arguments of a kernel: the equations, the blocks, units per chunk, and the precision of products."""

    cell: Cell
    grid: Grid
    width: int
    precision: jax.lax.Precision


def whole(a: Any) -> pl.BlockSpec:
    """Return the block that is all of an array. It lies in VMEM once, during the whole call."""
    return pl.BlockSpec(a.shape, lambda n: (0,) * a.ndim, pipeline_mode=pl.Buffered(1))


def result_like(like: Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """Return the type of a kernel's result, which varies over the same mesh axes as ``like``."""
    same: Any = jax.typeof(like)
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=same.manual_axis_type)


def chunk_width(hidden: int, most: int) -> int:
    """Return how many units a step computes at once. ``hidden`` is in whole tiles."""
    return next(width for width in (512, 256, LANES) if width <= most and hidden % width == 0)


def pad_rows(a: Array, batch: int, width: int) -> Array:
    """Return ``[..., B, n]`` as ``[..., batch, width]``, padded with zeros."""
    return jnp.pad(a, [*[(0, 0)] * (a.ndim - 2), (0, batch - a.shape[-2]), (0, width - a.shape[-1])])


def pad_gates(a: Array, gates: int, hidden: int) -> Array:
    """Return ``[..., gates * H]`` as ``[..., gates * hidden]``: each gate is padded with zeros."""
    apart = a.reshape(*a.shape[:-1], gates, -1)
    return pad_rows(apart, gates, hidden).reshape(*a.shape[:-1], gates * hidden)


def cut_gates(a: Array, gates: int, hidden: int) -> Array:
    """Return ``[..., gates * n]`` as ``[..., gates * hidden]``, without the padding of `pad_gates`."""
    apart = a.reshape(*a.shape[:-1], gates, -1)[..., :hidden]
    return apart.reshape(*a.shape[:-1], gates * hidden)
