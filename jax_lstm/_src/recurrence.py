"""The loop over time, and its derivative.

Axes: T steps, *batch any batch axes, D inputs, H hidden, P output width (H without a projection), G = gates * H.
Everything here is time-major: ``x [T, *batch, D]``, ``h [T, *batch, P]``, ``c [T, *batch, H]``.

Forward. All inputs of a block of steps are projected in one product before its loop; the body holds the recurrent
product and the gates. Derivative. The tangent of the recurrence is again a recurrence, and a *linear* one:

    dz_t = [dx_t W_ih' + x_t dW_ih' + db + h_{t-1} dW_hh'] + dh_{t-1} W_hh'

The bracket needs no loop: each term is one product over all steps. Only ``dh_{t-1} W_hh'`` and the pointwise
coefficients of `cell.tangent` stay inside: `tangents` has that loop, and its transpose. So in reverse mode the weight
gradients are single large products *after* the loop. One JVP rule thus gives forward mode, reverse mode, Hessians
and vmap.

Inside the rule the primal is computed by the custom_jvp function itself and not by the plain loop, so that a second
derivative meets the same rule again. JAX inlines the plain loop all the same where it partially evaluates a
checkpointed region, so that loop stops gradients at cuts itself: one rule in two places, or truncation would be lost
in second derivatives under ``checkpoint_every``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jax_lstm._src.blocks import block_steps, over_blocks, rewrite_blocks
from jax_lstm._src.cell import Cell
from jax_lstm._src.dtypes import accumulation_dtype
from jax_lstm._src.linear import linear
from jax_lstm._src.products import as_it_is, product, step_product, weight_product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.tangents import Residuals, Tangents, gates_along, h_before, pull, push
from jax_lstm._src.trees import add, cast, choose, every_step, gatewise, in_one_dtype, zeros_like

Array = Any


class Weights(NamedTuple):
    """One layer in one direction. ih [G, D], hh [G, P], bias [G] or None, hr [P, H] or None."""

    ih: Array
    hh: Array
    bias: Array | None
    hr: Array | None


class Events(NamedTuple):
    """What happens at which step, each bool [T, *batch or ones, 1] or None.

    valid: the step takes place; where it does not, the state passes through unchanged.
    reset: the step starts from the origin and not from the state before it.
    cut:   no derivative passes from the state before the step.
    """

    valid: Array | None = None
    reset: Array | None = None
    cut: Array | None = None


class Path(NamedTuple):
    """What the derivative goes along: c before each step (after cut and reset), and gates [T, *batch, G] or None."""

    c_before: Array | None
    gates: Array | None


class Trace(NamedTuple):
    """What a run leaves behind: the last state, and per step h, c and the path (None where not kept)."""

    last: LSTMState
    h: Array
    c: Array | None
    path: Path | None


@dataclass(frozen=True)
class Plan:
    """How to run: everything that is fixed at trace time."""

    cell: Cell
    carry_dtype: Any
    reverse: bool = False
    states: bool = False  # keep c after every step
    path: bool = False  # keep the path, its gates too where residuals are "fast"
    residuals: str = "fast"
    unroll: int = 1
    precision: Any = None


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recur(plan: Plan, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events) -> Trace:
    """Runs one layer in one direction over ``x [T, *batch, D]``; returns its :class:`Trace`.

    ``carry`` enters the first step that is processed; ``origin`` is the state that a reset goes back to. They are
    two things because under chunks the carry of a later chunk is not the origin. Weights and x share one dtype,
    both states have ``plan.carry_dtype``; sums are accumulated in at least float32.
    """
    cell = plan.cell
    times_hh, times_hr = step_product(plan, weights.hh, carry.h), step_product(plan, weights.hr, carry.h)
    keeps_gates = plan.path and plan.residuals == "fast"
    bias = (None,) * cell.num_gates
    if weights.bias is not None:
        bias = gatewise(cell, every_step(weights.bias, carry.h))

    def step(state, at):
        z, events = at
        before = choose(events.cut, jax.lax.stop_gradient(state), state)
        before = choose(events.reset, origin, before)
        recurrent = gatewise(cell, times_hh(before.h))
        gates = cell.activate(tuple(map(add, z, recurrent, bias)))
        m, c = cell.advance(*in_one_dtype(gates, before.c))
        h = m if times_hr is None else times_hr(m)
        after = choose(events.valid, cast(plan, LSTMState(h, c)), before, default=True)
        kept_gates = jnp.concatenate(gates, -1) if keeps_gates else None
        return after, (kept_gates, (after.h, after.c if plan.states else None, before.c if plan.path else None))

    def block(state, sums, events):
        inputs = gatewise(cell, sums)
        last, (gates, steps) = jax.lax.scan(step, state, (inputs, events), reverse=plan.reverse, unroll=plan.unroll)
        return last, gates, steps

    size = block_steps(x.shape[0], (*x.shape[1:-1], len(weights.ih)))
    if keeps_gates:
        sums = product(plan, x, weights.ih)
        last, gates, (h, c, c_before) = rewrite_blocks(size, block, carry, sums, events, reverse=plan.reverse)
        return Trace(last, h, c, Path(c_before, gates))

    def projected_block(state, at):
        x, events = at
        last, _, steps = block(state, product(plan, x, weights.ih), events)
        return last, steps

    last, (h, c, c_before) = over_blocks(size, projected_block, carry, (x, events), reverse=plan.reverse)
    return Trace(last, h, c, Path(c_before, None) if plan.path else None)


@partial(recur.defjvp, symbolic_zeros=True)
def _recur_jvp(plan, primals, tangents):
    weights, x, carry, origin, events = primals
    kept = recur(replace(plan, path=True), *primals)
    d_weights, d_x, d_carry, d_origin, _ = jax.tree.map(_none_if_zero, tangents)
    d_carry, d_origin = _or_zeros(d_carry, carry), _or_zeros(d_origin, origin)
    made_of = (carry.h, origin.h), (kept.h, events.reset, events.cut)
    lean = kept.path.gates is None
    recompute = (weights.ih, weights.bias, x, made_of) if lean else None
    residuals = Residuals(weights.hh, weights.hr, events, kept.path.c_before, kept.path.gates, recompute)

    # 1. what needs no loop: one product over all steps for each weight matrix
    d_sums = _of_type(
        kept.h,
        len(weights.ih),
        _wide(weights),
        product(plan, d_x, weights.ih),
        weight_product(plan, as_it_is, None, x, d_weights.ih),
        weight_product(plan, partial(h_before, plan), *made_of, d_weights.hh),
        every_step(d_weights.bias, x),
    )
    d_projected = None
    if d_weights.hr is not None:
        unprojected = partial(_unprojected, plan)
        m = (jax.checkpoint(unprojected) if lean else unprojected)(residuals)
        d_out = weight_product(plan, as_it_is, None, m, d_weights.hr)
        d_projected = _of_type(kept.h, kept.h.shape[-1], _wide(weights), d_out)

    # 2. the linear loop
    operands = Tangents(d_sums, d_projected, d_carry, None if events.reset is None else d_origin)
    pulled = partial(pull, plan, projected=d_projected is not None)
    d_last, d_h, d_c, d_c_before = linear(partial(push, plan), pulled, residuals, operands)
    if not plan.path:
        return kept._replace(path=None), Trace(d_last, d_h, d_c, None)

    # 3. the gates' own tangents, which only a second derivative asks for
    d_gates = None
    if not lean:
        d_made_of = (d_carry.h, d_origin.h), (d_h, events.reset, events.cut)
        _, d_h_before = h_before(plan, *d_made_of, at_cut=lambda d: jnp.zeros((), d.dtype))
        d_z = gatewise(plan.cell, add(d_sums, product(plan, d_h_before, weights.hh)))
        slopes = plan.cell.activation_slopes(gatewise(plan.cell, kept.path.gates))
        d_gates = jnp.concatenate(tuple(map(jnp.multiply, slopes, d_z)), -1)
    return kept, Trace(d_last, d_h, d_c, Path(d_c_before, d_gates))


def _unprojected(plan, residuals):
    gates = gatewise(plan.cell, gates_along(plan, residuals))
    return plan.cell.advance(*in_one_dtype(gates, residuals.c_before))[0]


def _of_type(h, width, dtype, *terms):
    """The sum of the terms, each [T, *batch, width] or None, in h's sharding type whichever of them are there."""
    zero, total = zeros_like(h[..., :1], dtype), add(*terms)
    return jnp.broadcast_to(zero, (*h.shape[:-1], width)) if total is None else total + zero


def _wide(weights):
    return accumulation_dtype(weights.ih.dtype)


def _none_if_zero(tangent):
    return None if isinstance(tangent, SymbolicZero) else tangent


def _or_zeros(tangents: LSTMState, like: LSTMState) -> LSTMState:
    h, c = (
        None if b is None else zeros_like(b) if a is None else a
        for a, b in ((tangents.h, like.h), (tangents.c, like.c))
    )
    return LSTMState(h, c)
