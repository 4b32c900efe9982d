"""The loop over time, and its derivative.

Axes: T steps, *batch any batch axes, D inputs, H hidden, P output width (H without a projection), G = gates * H.
Everything here is time-major: ``x [T, *batch, D]``, ``h [T, *batch, P]``, ``c [T, *batch, H]``.

Forward. All inputs are projected in one product before the loop; the body holds the recurrent product and the
gates. Derivative. The tangent of the recurrence is again a recurrence, and a *linear* one:

    dz_t = [dx_t W_ih' + x_t dW_ih' + db + h_{t-1} dW_hh'] + dh_{t-1} W_hh'

The bracket needs no loop: each term is one product over all steps. Only ``dh_{t-1} W_hh'`` and the pointwise
coefficients of `cell.tangent` stay inside. JAX transposes this, so that in reverse mode too the weight gradients
are single large products *after* the loop. One JVP rule thus gives forward mode, reverse mode, Hessians and vmap.

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

from jax_lstm.cell import Cell
from jax_lstm.state import LSTMState

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


class Trace(NamedTuple):
    """What a run leaves behind: the last state, and per step h, c and the gates (None where not kept)."""

    last: LSTMState
    h: Array
    c: Array | None
    gates: tuple[Array, ...] | None


@dataclass(frozen=True)
class Plan:
    """How to run: everything that is fixed at trace time."""

    cell: Cell
    carry_dtype: Any
    reverse: bool = False
    keep: str = "h"  # "h", "states" (h and c) or "all" (h, c and the gates)
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
    inputs = _gatewise(cell, _sum_inputs(plan, weights, x))
    w_hh, w_hr = _transposed(weights.hh), _transposed(weights.hr)

    def step(state, at):
        z, events = at
        before = _where(events.cut, jax.lax.stop_gradient(state), state)
        before = _where(events.reset, origin, before)
        recurrent = _gatewise(cell, _step_product(plan, before.h, w_hh))
        gates = cell.activate(tuple(map(jnp.add, z, recurrent)))
        m, c = cell.advance(gates, before.c)
        h = m if w_hr is None else _step_product(plan, m, w_hr)
        after = _where(events.valid, _cast(plan, LSTMState(h, c)), before, default=True)
        kept_c = None if plan.keep == "h" else after.c
        kept_gates = gates if plan.keep == "all" else None
        return after, (after.h, kept_c, kept_gates)

    last, steps = jax.lax.scan(step, carry, (inputs, events), reverse=plan.reverse, unroll=plan.unroll)
    return Trace(last, *steps)


@partial(recur.defjvp, symbolic_zeros=True)
def _recur_jvp(plan, primals, tangents):
    lean = plan.residuals == "lean" and plan.keep != "all"
    kept = recur(replace(plan, keep="states" if lean else "all"), *primals)
    push = partial(_push_forward, plan)
    push = jax.checkpoint(push) if lean else push
    d_weights, d_x, d_carry, d_origin, _ = jax.tree.map(_none_if_zero, tangents)
    d_kept = push(primals, kept, (d_weights, d_x, d_carry, d_origin))
    return _restrict(plan, kept), d_kept


def _push_forward(plan, primals, kept, tangents):
    """The tangent of a run. A tangent that is None is zero and costs nothing."""
    weights, x, carry, origin, events = primals
    d_weights, d_x, d_carry, d_origin = tangents
    cell = plan.cell
    d_carry, d_origin = _or_zeros(d_carry, carry), _or_zeros(d_origin, origin)
    before = _states_before(plan, LSTMState(kept.h, kept.c), carry, origin, events, jax.lax.stop_gradient)
    gates = kept.gates if kept.gates is not None else _recompute_gates(plan, weights, x, before.h)

    # 1. what needs no loop: one product over all steps for each weight matrix
    d_sums = _add(
        _product(plan, d_x, weights.ih),
        _product(plan, x, d_weights.ih),
        _product(plan, before.h, d_weights.hh),
        _every_step(d_weights.bias, x),
    )
    d_projected = None
    if d_weights.hr is not None:
        m, _ = cell.advance(gates, before.c)
        d_projected = _product(plan, m, d_weights.hr)
    coefficients = cell.slopes(gates, before.c, kept.c)

    # 2. the linear loop
    w_hh, w_hr = _transposed(weights.hh), _transposed(weights.hr)

    def step(d_state, at):
        coefficients, d_z, d_projected, events = at
        d_before = _where(events.cut, _zeros_like(d_state), d_state)
        d_before = _where(events.reset, d_origin, d_before)
        d_recurrent = _gatewise(cell, _step_product(plan, d_before.h, w_hh))
        d_z = d_recurrent if d_z is None else tuple(map(jnp.add, d_z, d_recurrent))
        d_h, d_c = cell.tangent(coefficients, d_z, d_before.c)
        if w_hr is not None:
            d_h = _add(_step_product(plan, d_h, w_hr), d_projected)
        d_after = _where(events.valid, _cast(plan, LSTMState(d_h, d_c)), d_before, default=True)
        return d_after, LSTMState(d_after.h, None if plan.keep == "h" else d_after.c)

    d_z = None if d_sums is None else _gatewise(cell, d_sums)
    steps = (coefficients, d_z, d_projected, events)
    d_last, d_states = jax.lax.scan(step, d_carry, steps, reverse=plan.reverse, unroll=plan.unroll)

    # 3. the gates' own tangents, which only a second derivative asks for
    d_gates = None
    if plan.keep == "all":
        d_before = _states_before(plan, d_states, d_carry, d_origin, events, jnp.zeros_like)
        d_z = _gatewise(cell, _add(d_sums, _product(plan, d_before.h, weights.hh)))
        d_gates = tuple(map(jnp.multiply, cell.activation_slopes(gates), d_z))
    return Trace(d_last, d_states.h, d_states.c, d_gates)


def _states_before(plan, states, carry, origin, events, at_cut):
    """The state that each step starts from: shifted by one step, then cut, then reset."""

    def shift(first, each):
        order = (each[1:], first[None]) if plan.reverse else (first[None], each[:-1])
        return jnp.concatenate(order)

    shifted = jax.tree.map(shift, carry, states)
    shifted = _where(events.cut, jax.tree.map(at_cut, shifted), shifted)
    return _where(events.reset, origin, shifted)


def _sum_inputs(plan, weights, x):
    """The loop-free part of every gate's sum: [T, *batch, G]."""
    return _add(_product(plan, x, weights.ih), _every_step(weights.bias, x))


def _recompute_gates(plan, weights, x, h_before):
    sums = _sum_inputs(plan, weights, x) + _product(plan, h_before, weights.hh)
    return plan.cell.activate(_gatewise(plan.cell, sums))


def _product(plan, a, w):
    """a [..., in] times w [out, in] over all steps at once; None where either is None."""
    return None if a is None or w is None else _dot(plan, a, w, 1)


def _step_product(plan, a, w):
    """a [*batch, in] times w [in, out]: inside a loop, with the transpose taken once outside (faster on CPU)."""
    return _dot(plan, a, w, 0)


def _dot(plan, a, w, axis):
    return jax.lax.dot_general(
        a.astype(w.dtype),
        w,
        (((a.ndim - 1,), (axis,)), ((), ())),
        precision=plan.precision,
        preferred_element_type=jnp.promote_types(w.dtype, jnp.float32),
    )


def _gatewise(cell, z):
    """[..., G] -> one [..., H] array a gate. Separate arrays are what lets XLA:CPU vectorise the loop body."""
    return tuple(jnp.split(z, cell.num_gates, axis=-1))


def _every_step(bias, x):
    """bias [G] -> [T, *batch, G], laid out over devices as x is: a plain broadcast lies whole on every device of an
    explicit mesh, so that its transpose gathers all of dz, T * batch * G numbers, only to sum them."""
    if bias is None:
        return None
    return jnp.zeros_like(x[..., :1], dtype=bias.dtype) + bias.reshape(*(1,) * (x.ndim - 1), -1)


def _restrict(plan, trace):
    return Trace(
        trace.last,
        trace.h,
        None if plan.keep == "h" else trace.c,
        trace.gates if plan.keep == "all" else None,
    )


def _cast(plan, state):
    return jax.tree.map(lambda a: a.astype(plan.carry_dtype), state)


def _where(condition, chosen, otherwise, *, default=False):
    """jnp.where over trees; a condition of None is ``default`` everywhere."""
    if condition is None:
        return chosen if default else otherwise
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, otherwise)


def _zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def _none_if_zero(tangent):
    return None if isinstance(tangent, SymbolicZero) else tangent


def _or_zeros(tangents: LSTMState, like: LSTMState) -> LSTMState:
    h, c = (
        None if b is None else jnp.zeros_like(b) if a is None else a
        for a, b in ((tangents.h, like.h), (tangents.c, like.c))
    )
    return LSTMState(h, c)


def _add(*terms):
    """The sum of the terms that are not None; None if all are."""
    terms = [term for term in terms if term is not None]
    return sum(terms[1:], terms[0]) if terms else None


def _transposed(w):
    return None if w is None else w.T
