"""The linear recurrence of the tangents: forward through time (`push`), and its transpose, backward (`pull`).

Both run over blocks of steps. The coefficients of a block, six numbers per unit and step, are computed from the gates
when the loop reaches the block, so that they never exist for the whole sequence. One step backward is the transpose of
one step forward, taken by JAX. In `pull`, the gates of a block are not needed any more when its coefficients are
computed. The cotangents of its gate sums are as large as the gates, and are written over them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Gates
from jax_lstm._src.blocks import block_steps, over_blocks, rewrite_blocks
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.plan import Events, Plan
from jax_lstm._src.products import loop_product, product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import add, broadcast_bias, in_one_dtype, split_gates, where_tree, zero_where, zeros_like


class HSources(NamedTuple):
    """What :func:`h_before` computes from: the carry (h, the origin's h), and (h after each step, reset, cut)."""

    carry: tuple[Array, Array]
    steps: tuple[Array, Array | None, Array | None]


class Recompute(NamedTuple):
    """What gates that were not kept are recomputed from: w_ih, bias, x, and the sources of h before each step."""

    w_ih: Array
    bias: Array | None
    x: Array
    h_sources: HSources


class Residuals(NamedTuple):
    """What the coefficients of the loop are computed from. If ``gates`` is None, ``recompute`` replaces them."""

    w_hh: Array
    w_hr: Array | None
    events: Events
    c_before: Array | None
    gates: Array | None
    recompute: Recompute | None


class Tangents(NamedTuple):
    """What the loop is linear in.

    sums: tangents of the gate sums, ``[T, *batch, G]``, without the recurrent product.
    projected: tangents of h by weight_hr, ``[T, *batch, P]``, or None.
    carry: tangent of the first state.
    origin: tangent of the state that a reset goes back to, or None if no step can reset.
    """

    sums: Array
    projected: Array | None
    carry: LSTMState
    origin: LSTMState | None


class Cotangents(NamedTuple):
    """The cotangents of what `push` returns, in its order. None is zero."""

    last: LSTMState
    h: Array | None
    c: Array | None
    c_before: Array | None


def gates_along(plan: Plan, residuals: Residuals) -> Array:
    """Return the gates ``[T, *batch, G]``: the kept ones, or recomputed by one product over all steps."""
    if residuals.gates is not None:
        return residuals.gates
    assert residuals.recompute is not None
    w_ih, bias, x, h_sources = residuals.recompute
    _, before = h_before(plan, *h_sources)
    sums = add(product(plan, x, w_ih), broadcast_bias(bias, x), product(plan, before, residuals.w_hh))
    assert sums is not None
    return jnp.concatenate(plan.cell.activate(split_gates(plan.cell, sums)), -1)


def h_before(
    plan: Plan,
    carry: tuple[Array, Array],
    steps: tuple[Array, Array | None, Array | None],
    at_cut: Callable[[Array], Array] = jax.lax.stop_gradient,
) -> tuple[tuple[Array, Array], Array]:
    """Return the next carry, and the h that each step of a block starts from: shifted by one step, cut, then reset.

    Args:
      plan: for the direction.
      carry: the h that the block starts from, and the origin's h.
      steps: h after each step of the block, reset, and cut.
      at_cut: what a cut does to h.
    """
    first, origin = carry
    h, reset, cut = steps
    order, last = ((h[1:], first[None]), h[0]) if plan.reverse else ((first[None], h[:-1]), h[-1])
    shifted = jnp.concatenate(order)
    return (last, origin), where_tree(reset, origin, where_tree(cut, at_cut(shifted), shifted))


def push(plan: Plan, residuals: Residuals, tangents: Tangents) -> tuple[LSTMState, Array, Array | None, Array | None]:
    """Return the tangents of the last state, and per step of h, c and c_before.

    c is None unless ``plan.states``, and c_before unless ``plan.path``.
    """
    w_hh, w_hr, events, c_before = residuals[:4]
    like = tangents.carry.h
    times_hh, times_hr = loop_product(plan, w_hh, like), loop_product(plan, w_hr, like)

    def step(d_state: LSTMState, inputs: Any) -> tuple[LSTMState, Any]:
        coefficients, events, d_z, d_projected = inputs
        d_after, d_c_before = _step(
            plan, times_hh, times_hr, coefficients, events, d_state, d_z, d_projected, tangents.origin
        )
        return d_after, (d_after.h, d_after.c if plan.states else None, d_c_before)

    def block(d_state: LSTMState, inputs: Any) -> tuple[LSTMState, Any]:
        gates, c_before, *rest = inputs
        steps = (_coefficients(plan, gates, c_before), *rest)
        return jax.lax.scan(step, d_state, steps, reverse=plan.reverse, unroll=plan.unroll)

    gates = gates_along(plan, residuals)
    steps = (gates, c_before, events, tangents.sums, tangents.projected)
    size = block_steps(gates.shape[0], gates.shape[1:])
    d_last, d_steps = over_blocks(size, block, tangents.carry, steps, reverse=plan.reverse)
    return d_last, *d_steps


def pull(plan: Plan, residuals: Residuals, cotangents: Any, *, projected: bool) -> Tangents:
    """Return the cotangents of the operands of :func:`push`: its transpose.

    Args:
      plan, residuals: as for :func:`push`.
      cotangents: the fields of :class:`Cotangents`.
      projected: whether :func:`push` had a tangent ``projected``.
    """
    w_hh, w_hr, events, c_before = residuals[:4]
    # JAX transposes these two products, so that w is used as it lies, without `loop_product`.
    times_hh = lambda d_h: product(plan, d_h, w_hh)
    times_hr = None if w_hr is None else lambda d_m: product(plan, d_m, w_hr)
    ct_last, ct_h, ct_c, ct_c_before = Cotangents(*cotangents)
    gates = gates_along(plan, residuals)
    first = _first_cotangents(plan, residuals, gates, ct_last)
    if plan.path and c_before is not None and ct_c_before is None:
        ct_c_before = zeros_like(c_before)

    def step(carry: tuple[LSTMState, LSTMState | None], inputs: Any) -> tuple[Any, Any]:
        ct_after, ct_origin = carry
        coefficients, events, ct_h, ct_c, ct_c_before = inputs
        ct_after = LSTMState(add(ct_after.h, ct_h), add(ct_after.c, ct_c))
        wide = jnp.concatenate(coefficients[: plan.cell.num_gates], -1).astype(gates.dtype)  # only its type is used
        like = Tangents(wide, zeros_like(ct_after.h, wide.dtype) if projected else None, ct_after, ct_origin)

        def forward(tangents: Tangents) -> tuple[LSTMState, Array | None]:
            d_z, d_projected, d_state, d_origin = tangents
            return _step(plan, times_hh, times_hr, coefficients, events, d_state, d_z, d_projected, d_origin)

        (ct,) = jax.linear_transpose(forward, like)((ct_after, ct_c_before))
        ct_origin = None if ct_origin is None else jax.tree.map(jnp.add, ct_origin, ct.origin)
        return (ct.carry, ct_origin), (ct.sums, ct.projected)

    def block(carry: Any, gates: Array, inputs: Any) -> tuple[Any, Array, Array | None]:
        c_before, *rest = inputs
        steps = (_coefficients(plan, gates, c_before), *rest)
        carry, (ct_sums, ct_projected) = jax.lax.scan(step, carry, steps, reverse=not plan.reverse, unroll=plan.unroll)
        return carry, ct_sums, ct_projected

    steps = (c_before, events, ct_h, ct_c, ct_c_before)
    size = block_steps(gates.shape[0], gates.shape[1:])
    (ct_carry, ct_origin), ct_sums, ct_projected = rewrite_blocks(
        size, block, first, gates, steps, reverse=not plan.reverse
    )
    return Tangents(ct_sums, ct_projected, ct_carry, ct_origin)


def _step(
    plan: Plan,
    times_hh: Callable[[Array], Array],
    times_hr: Callable[[Array], Array] | None,
    coefficients: Gates,
    events: Events,
    d_state: LSTMState,
    d_z: Array,
    d_projected: Array | None,
    d_origin: LSTMState | None,
) -> tuple[LSTMState, Array | None]:
    """Return the tangents after one step, and of c before it if the path is kept; linear in the last four arguments."""
    kept = zero_where(events.cut, d_state)
    d_before = kept if d_origin is None else where_tree(events.reset, d_origin, kept)
    sums = split_gates(plan.cell, d_z + times_hh(d_before.h))
    d_h, d_c = plan.cell.tangent(*in_one_dtype(coefficients, sums, d_before.c))
    if times_hr is not None:
        projected = add(times_hr(d_h), d_projected)
        assert projected is not None
        d_h = projected
    d_after = where_tree(events.valid, cast_floating(LSTMState(d_h, d_c), plan.carry_dtype), d_before, default=True)
    return d_after, d_before.c if plan.path else None


def _first_cotangents(
    plan: Plan, residuals: Residuals, gates: Array, ct_last: LSTMState
) -> tuple[LSTMState, LSTMState | None]:
    """Return the first cotangents of the loop: of the state, and of the origin if steps can reset.

    A cotangent that is absent becomes zeros of the sharding type that the carry has.
    """
    batch = gates[0, ..., :1]
    hidden = gates.shape[-1] // plan.cell.num_gates
    widths = LSTMState(residuals.w_hh.shape[1], hidden if plan.cell.has_cell_state else None)
    zeros = jax.tree.map(
        lambda width: jnp.broadcast_to(zeros_like(batch, plan.carry_dtype), (*batch.shape[:-1], width)), widths
    )
    state = LSTMState(add(zeros.h, ct_last.h), add(zeros.c, ct_last.c))
    return state, None if residuals.events.reset is None else zeros


def _coefficients(plan: Plan, gates: Array, c_before: Array | None) -> Gates:
    values, before = in_one_dtype(split_gates(plan.cell, gates), c_before)
    return plan.cell.slopes(values, before, plan.cell.advance(values, before)[1])
