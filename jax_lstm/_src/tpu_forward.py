"""The loop over time as one kernel of a TPU, for `recurrence.recur` of a layer without events or a projection.

A kernel runs over blocks of steps, in order. The weights and the state lie in vector memory (VMEM) during the whole
call. While one block is computed, the next x comes in and the last h goes out. Inside a block, one product projects the
inputs of all steps. These gate sums never leave VMEM. Then a loop runs over the steps.

Weights are transposed, and their columns are ordered by chunk, then by gate: all gates of units 0 to width - 1, then
all gates of the next units. One product thus gives all that a chunk's units need, and the compiler can schedule the
gates of one chunk beside the product of the next.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jax_lstm._src.arrays import Array
from jax_lstm._src.plan import Path, Plan, Trace, Weights
from jax_lstm._src.state import LSTMState
from jax_lstm._src.tpu_layout import Fixed, Grid, chunk_width, cut_gates, pad_gates, pad_rows, result_like, whole
from jax_lstm._src.tpu_memory import forward_memory, operand_dtype, product_precision, tiles_of

PROJECTED_ROWS = 256  # steps times batch of one product of the inputs, so that its results stay small


def run_forward(plan: Plan, weights: Weights, x: Array, carry: LSTMState, *, interpret: bool) -> Trace:
    """Run one layer in one direction.

    Args:
      plan: with one ``precision``, without ``states``, with a float32 carry.
      weights: float32 or bfloat16, without a projection.
      x: ``[T, *batch, D]`` in the dtype of the weights.
      carry: the first state.
      interpret: whether Pallas interprets the kernel. A default precision then means full float32, as on a CPU.
    """
    assert isinstance(plan.precision, jax.lax.Precision)
    steps, *batch, inputs = x.shape
    dtype, hidden, gates = x.dtype, weights.hh.shape[1], plan.cell.num_gates
    count = math.prod(batch)
    tiles = tiles_of(count, inputs, hidden, dtype)
    operand = dtype if interpret else operand_dtype(dtype, plan.precision)
    memory = forward_memory(tiles, gates, dtype, operand, plan.path)
    grid = Grid.of(steps, tiles, memory, plan.unroll, plan.reverse)
    width = chunk_width(tiles.hidden, 512)

    chunked = partial(_chunked, gates=gates, hidden=tiles.hidden, width=width)
    w_ih, w_hh = chunked(weights.ih, rows=tiles.inputs), chunked(weights.hh, rows=tiles.hidden)
    bias = jnp.zeros(gates * hidden, jnp.float32) if weights.bias is None else weights.bias
    state = [pad_rows(a.reshape(count, hidden), tiles.batch, tiles.hidden) for a in (carry.h, carry.c)]
    operands = (
        pad_rows(x.reshape(steps, count, inputs), tiles.batch, tiles.inputs),
        w_ih.astype(operand),
        chunked(bias[:, None], rows=1).astype(jnp.float32),
        w_hh.astype(operand),
        *state,
    )
    kept = [(tiles.hidden, dtype)]  # h, and for the backward pass c_before and the gates
    if plan.path:
        kept += [(tiles.hidden, jnp.float32), (gates * tiles.hidden, dtype)]
    last = result_like(x, state[0].shape, jnp.float32)
    sums = pltpu.VMEM((grid.block, tiles.batch, gates * tiles.hidden), jnp.float32)
    results = pl.pallas_call(
        partial(_kernel, Fixed(plan.cell, grid, width, product_precision(dtype, plan.precision))),
        grid=(grid.length,),
        in_specs=[grid.spec(tiles.batch, tiles.inputs), *map(whole, operands[1:])],
        out_specs=[whole(last), whole(last), *(grid.spec(tiles.batch, n) for n, _ in kept)],
        out_shape=[last, last, *(result_like(x, (steps, tiles.batch, n), of) for n, of in kept)],
        scratch_shapes=[sums, *[pltpu.VMEM(last.shape, last.dtype)] * 2],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary",), vmem_limit_bytes=memory.limit(grid.block)
        ),
        interpret=interpret,
        name="lstm_forward",
    )(*operands)

    def cut(a: Array, per_unit: int = 1) -> Array:
        rows = cut_gates(a[..., :count, :], per_unit, hidden)
        return rows.reshape(*a.shape[:-2], *batch, per_unit * hidden)

    h_last, c_last, h, *path = results
    kept_path = Path(cut(path[0]), cut(path[1], gates)) if plan.path else None
    return Trace(LSTMState(cut(h_last), cut(c_last)), cut(h), None, kept_path)


def _kernel(fixed: Fixed, x, w_ih, bias, w_hh, h0, c0, h_last, c_last, h_kept, *rest) -> None:  # type: ignore[no-untyped-def]
    """Run one block. The arguments are the blocks of what `run_forward` gives to pallas_call, in its order."""
    cell, grid, width, precision = fixed
    *path, z, h, c = rest
    batch, hidden = h0.shape
    dot = partial(jnp.dot, precision=precision, preferred_element_type=jnp.float32)

    @pl.when(grid.is_first())
    def _start() -> None:
        h[...], c[...] = h0[...], c0[...]

    at_once = min(grid.block, max(1, PROJECTED_ROWS // batch))

    def project(n: Array, _: None) -> None:
        steps = pl.ds(jnp.minimum(n * at_once, grid.block - at_once), at_once)  # the last ones may overlap
        rows = x[steps].reshape(at_once * batch, -1)
        sums = dot(rows.astype(w_ih.dtype), w_ih[...]) + bias[...]
        z[steps] = sums.reshape(at_once, batch, -1)

    jax.lax.fori_loop(0, pl.cdiv(grid.block, at_once), project, None)

    def step(t: Any) -> None:
        h_before = h[...].astype(w_hh.dtype)
        for start in range(0, hidden, width):
            units, columns = pl.ds(start, width), pl.ds(cell.num_gates * start, cell.num_gates * width)
            sums = z[t, :, columns] + dot(h_before, w_hh[:, columns])
            gates = cell.activate(tuple(jnp.split(sums, cell.num_gates, axis=-1)))
            c_before = c[:, units]
            h_after, c_after = cell.advance(gates, c_before)
            h[:, units], c[:, units] = h_after, c_after
            h_kept[t, :, units] = h_after.astype(h_kept.dtype)
            if path:
                path[0][t, :, units] = c_before
                for k, gate in enumerate(gates):
                    path[1][t, :, pl.ds(k * hidden + start, width)] = gate.astype(path[1].dtype)

    grid.run(step)

    @pl.when(grid.is_last())
    def _end() -> None:
        h_last[...], c_last[...] = h[...], c[...]


def _chunked(w: Array, *, gates: int, hidden: int, width: int, rows: int) -> Array:
    """Return w ``[gates * H, n]`` as ``[rows, gates * hidden]``, its columns ordered by chunk, then by gate."""
    padded = pad_gates(w.T, gates, hidden)
    padded = pad_rows(padded, rows, gates * hidden).reshape(rows, gates, hidden // width, width)
    return padded.swapaxes(1, 2).reshape(rows, gates * hidden)
