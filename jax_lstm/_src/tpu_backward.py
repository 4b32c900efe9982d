"""The backward loop as one kernel of a TPU, for `tangents.pull` of a layer without events or a projection.

Like the forward kernel, it runs over blocks of steps, with weight_hh and the cotangents of the state in vector memory
(VMEM). A step transposes the tangent of the cell, chunk by chunk of its units. Then one product gives the cotangent of
h before the step. The cotangents of the gate sums are written where the gates were.
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
from jax_lstm._src.plan import Path, Plan
from jax_lstm._src.state import LSTMState
from jax_lstm._src.tpu_layout import Fixed, Grid, chunk_width, cut_gates, pad_gates, pad_rows, result_like, whole
from jax_lstm._src.tpu_memory import backward_memory, operand_dtype, product_precision, tiles_of


def run_backward(
    plan: Plan, w_hh: Array, path: Path, ct_h: Array | None, carry: LSTMState, *, interpret: bool
) -> tuple[Array, LSTMState]:
    """Return the cotangents of the gate sums ``[T, *batch, G]`` and of the state before the first step.

    Args:
      plan: as for `tpu_forward.run_forward`; ``reverse`` is the direction of the forward pass.
      w_hh: ``[G, H]``.
      path: what the forward pass kept.
      ct_h: the cotangents of h of every step ``[T, *batch, H]``; None is zero.
      carry: the cotangents of the last state, float32.
      interpret: whether Pallas interprets the kernel. A default precision then means full float32, as on a CPU.
    """
    assert isinstance(plan.precision, jax.lax.Precision)
    assert path.c_before is not None
    steps, *batch, hidden = path.c_before.shape
    dtype, gates, count = path.gates.dtype, plan.cell.num_gates, math.prod(batch)
    if ct_h is None:
        ct_h = jnp.zeros((steps, count, hidden), dtype)
    tiles = tiles_of(count, hidden, hidden, dtype)
    operand = dtype if interpret else operand_dtype(dtype, plan.precision)
    memory = backward_memory(tiles, gates, dtype, operand)
    grid = Grid.of(steps, tiles, memory, plan.unroll, not plan.reverse)

    rows = lambda a: pad_rows(a.reshape(*a.shape[: -1 - len(batch)], count, hidden), tiles.batch, tiles.hidden)
    w = pad_gates(w_hh.T, gates, tiles.hidden).T
    operands = (
        rows(ct_h.astype(dtype)),
        pad_gates(pad_rows(path.gates.reshape(steps, count, -1), tiles.batch, gates * hidden), gates, tiles.hidden),
        rows(path.c_before),
        jnp.pad(w, ((0, 0), (0, tiles.hidden - hidden))).astype(operand),
        rows(carry.h),
        rows(carry.c),
    )
    all_gates = gates * tiles.hidden
    state = result_like(w_hh, (tiles.batch, tiles.hidden), jnp.float32)
    of_h, of_gates = grid.spec(tiles.batch, tiles.hidden), grid.spec(tiles.batch, all_gates)
    precision = product_precision(dtype, plan.precision)
    sums, h, c = pl.pallas_call(
        partial(_kernel, Fixed(plan.cell, grid, chunk_width(tiles.hidden, 256), precision)),
        grid=(grid.length,),
        in_specs=[of_h, of_gates, of_h, *map(whole, operands[3:])],
        out_specs=[of_gates, whole(state), whole(state)],
        out_shape=[result_like(w_hh, (steps, tiles.batch, all_gates), dtype), state, state],
        input_output_aliases={1: 0},
        scratch_shapes=[*[pltpu.VMEM(state.shape, state.dtype)] * 2, pltpu.VMEM((tiles.batch, all_gates), operand)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary",), vmem_limit_bytes=memory.limit(grid.block)
        ),
        interpret=interpret,
        name="lstm_backward",
    )(*operands)
    ct_sums = cut_gates(sums[:, :count], gates, hidden).reshape(steps, *batch, gates * hidden)
    return ct_sums, LSTMState(*(a[:count, :hidden].reshape(*batch, hidden) for a in (h, c)))


def _kernel(fixed: Fixed, ct_h, gates, c_before, w_hh, h_last, c_last, ct_sums, h_first, c_first, h, c, z) -> None:  # type: ignore[no-untyped-def]
    """Run one block. The arguments are the blocks of what `run_backward` gives to pallas_call, in its order."""
    cell, grid, width, precision = fixed
    hidden = h.shape[1]

    @pl.when(grid.is_first())
    def _start() -> None:
        h[...], c[...] = h_last[...], c_last[...]

    def step(t: Any) -> None:
        for start in range(0, hidden, width):
            units = pl.ds(start, width)
            of_gate = [pl.ds(k * hidden + start, width) for k in range(cell.num_gates)]
            values = tuple(gates[t, :, part].astype(jnp.float32) for part in of_gate)
            before = c_before[t, :, units]
            coefficients = cell.slopes(values, before, cell.advance(values, before)[1])
            tangent = partial(cell.tangent, coefficients)
            ct_after = (h[:, units] + ct_h[t, :, units].astype(jnp.float32), c[:, units])
            ct_z, c[:, units] = jax.linear_transpose(tangent, values, before)(ct_after)
            for part, ct in zip(of_gate, ct_z, strict=True):
                ct_sums[t, :, part], z[:, part] = ct.astype(ct_sums.dtype), ct.astype(z.dtype)
        h[...] = jnp.dot(z[...], w_hh[...], precision=precision, preferred_element_type=jnp.float32)

    grid.run(step)

    @pl.when(grid.is_last())
    def _end() -> None:
        h_first[...], c_first[...] = h[...], c[...]
