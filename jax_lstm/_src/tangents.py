"""The linear recurrence of tangents: pushed forward through time, and pulled back against it.

Both run over blocks of steps. A block's coefficients, six numbers a unit and step, are made from the gates when the
loop gets there, so that they never exist for the whole sequence; a step backwards is the transpose of a step forwards,
taken by JAX. On the way back a block's gates are dead once its coefficients are made, and the cotangents of its sums,
just as large, are written where they were.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.blocks import block_steps, over_blocks, rewrite_blocks
from jax_lstm._src.products import product, step_product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import add, cast, choose, every_step, gatewise, in_one_dtype, zero_where, zeros_like

Array = Any


class Residuals(NamedTuple):
    """What the loop's coefficients are made of. Where gates is None they are recomputed from the last entry."""

    w_hh: Array
    w_hr: Array | None
    events: Any
    c_before: Array | None
    gates: Array | None
    recompute: Any  # None, or w_ih, bias, x, and the arguments of h_before


class Tangents(NamedTuple):
    """What the loop is linear in: gate sums [T, *batch, G], projected outputs [T, *batch, P] or None, both states."""

    sums: Array
    projected: Array | None
    carry: LSTMState
    origin: LSTMState | None


def gates_along(plan, residuals: Residuals) -> Array:
    """The gates [T, *batch, G], as they were kept or by one product over all steps."""
    if residuals.gates is not None:
        return residuals.gates
    w_ih, bias, x, made_of = residuals.recompute
    _, before = h_before(plan, *made_of)
    sums = add(product(plan, x, w_ih), every_step(bias, x), product(plan, before, residuals.w_hh))
    return jnp.concatenate(plan.cell.activate(gatewise(plan.cell, sums)), -1)


def h_before(plan, carry, steps, at_cut=jax.lax.stop_gradient):
    """The h that each step of a block starts from: shifted by one step, then cut, then reset; and the next carry.

    carry: (h, origin's h) that the block starts from. steps: (h after each step, reset, cut).
    """
    first, origin = carry
    h, reset, cut = steps
    order, last = ((h[1:], first[None]), h[0]) if plan.reverse else ((first[None], h[:-1]), h[-1])
    shifted = jnp.concatenate(order)
    return (last, origin), choose(reset, origin, choose(cut, at_cut(shifted), shifted))


def push(plan, residuals: Residuals, tangents: Tangents):
    """Tangents of the last state, and per step of h, of c where states are kept, of c_before where the path is."""
    w_hh, w_hr, events, c_before = residuals[:4]
    like = tangents.carry.h
    times_hh, times_hr = step_product(plan, w_hh, like), step_product(plan, w_hr, like)

    def step(d_state, at):
        coefficients, events, d_z, d_projected = at
        d_after, d_c_before = _step(
            plan, times_hh, times_hr, coefficients, events, d_state, d_z, d_projected, tangents.origin
        )
        return d_after, (d_after.h, d_after.c if plan.states else None, d_c_before)

    def block(d_state, at):
        gates, c_before, *rest = at
        steps = (_coefficients(plan, gates, c_before), *rest)
        return jax.lax.scan(step, d_state, steps, reverse=plan.reverse, unroll=plan.unroll)

    gates = gates_along(plan, residuals)
    steps = (gates, c_before, events, tangents.sums, tangents.projected)
    size = block_steps(gates.shape[0], gates.shape[1:])
    d_last, d_steps = over_blocks(size, block, tangents.carry, steps, reverse=plan.reverse)
    return d_last, *d_steps


def pull(plan, residuals: Residuals, cotangents, *, projected: bool) -> Tangents:
    """The transpose of :func:`push`. A cotangent of None is zero; ``projected``: whether that tangent was there."""
    w_hh, w_hr, events, c_before = residuals[:4]
    times_hh = lambda d_h: product(plan, d_h, w_hh)  # its transpose is what runs, for which w lies right as it is
    times_hr = None if w_hr is None else lambda d_m: product(plan, d_m, w_hr)
    ct_last, ct_h, ct_c, ct_c_before = cotangents
    gates = gates_along(plan, residuals)
    first = _first_cotangents(plan, residuals, gates, ct_last)
    if plan.path and c_before is not None and ct_c_before is None:
        ct_c_before = zeros_like(c_before)

    def step(carry, at):
        ct_after, ct_origin = carry
        coefficients, events, ct_h, ct_c, ct_c_before = at
        ct_after = LSTMState(add(ct_after.h, ct_h), add(ct_after.c, ct_c))
        wide = jnp.concatenate(coefficients[: plan.cell.num_gates], -1).astype(gates.dtype)  # for its type alone
        like = Tangents(wide, zeros_like(ct_after.h, wide.dtype) if projected else None, ct_after, ct_origin)

        def forward(tangents):
            d_z, d_projected, d_state, d_origin = tangents
            return _step(plan, times_hh, times_hr, coefficients, events, d_state, d_z, d_projected, d_origin)

        (ct,) = jax.linear_transpose(forward, like)((ct_after, ct_c_before))
        ct_origin = None if ct_origin is None else jax.tree.map(jnp.add, ct_origin, ct.origin)
        return (ct.carry, ct_origin), (ct.sums, ct.projected)

    def block(carry, gates, at):
        c_before, *rest = at
        steps = (_coefficients(plan, gates, c_before), *rest)
        carry, (ct_sums, ct_projected) = jax.lax.scan(step, carry, steps, reverse=not plan.reverse, unroll=plan.unroll)
        return carry, ct_sums, ct_projected

    steps = (c_before, events, ct_h, ct_c, ct_c_before)
    size = block_steps(gates.shape[0], gates.shape[1:])
    (ct_carry, ct_origin), ct_sums, ct_projected = rewrite_blocks(
        size, block, first, gates, steps, reverse=not plan.reverse
    )
    return Tangents(ct_sums, ct_projected, ct_carry, ct_origin)


def _step(plan, times_hh, times_hr, coefficients, events, d_state, d_z, d_projected, d_origin):
    """One step of the tangents, linear in the last four. Returns them after the step, and c's before where asked."""
    d_before = choose(events.reset, d_origin, zero_where(events.cut, d_state))
    d_z = gatewise(plan.cell, d_z + times_hh(d_before.h))
    d_h, d_c = plan.cell.tangent(*in_one_dtype(coefficients, d_z, d_before.c))
    if times_hr is not None:
        d_h = add(times_hr(d_h), d_projected)
    d_after = choose(events.valid, cast(plan, LSTMState(d_h, d_c)), d_before, default=True)
    return d_after, d_before.c if plan.path else None


def _first_cotangents(plan, residuals, gates, ct_last):
    """The state's and, where steps can reset, the origin's: zero where nothing came, of the carry's sharding type."""
    batch = gates[0, ..., :1]
    hidden = gates.shape[-1] // plan.cell.num_gates
    widths = LSTMState(residuals.w_hh.shape[1], hidden if plan.cell.has_cell_state else None)
    zeros = jax.tree.map(
        lambda width: jnp.broadcast_to(zeros_like(batch, plan.carry_dtype), (*batch.shape[:-1], width)), widths
    )
    return LSTMState(add(zeros.h, ct_last.h), add(zeros.c, ct_last.c)), (
        None if residuals.events.reset is None else zeros
    )


def _coefficients(plan, gates, c_before):
    gates, c_before = in_one_dtype(gatewise(plan.cell, gates), c_before)
    return plan.cell.slopes(gates, c_before, plan.cell.advance(gates, c_before)[1])
