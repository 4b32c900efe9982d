"""The linear recurrence of the tangents: forward through time (`push`), and its transpose, backward (`pull`).

Both run over blocks of steps. The coefficients of a block, six numbers per unit and step, are computed from the gates
when the loop reaches the block, so that they never exist for the whole sequence. One step backward is the transpose of
one step forward, taken by JAX. In `pull`, the gates of a block are not needed any more when its coefficients are
computed. The cotangents of its gate sums are as large as the gates, and are written over them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Gates
from jax_lstm._src.blocks import over_blocks, rewrite_blocks
from jax_lstm._src.dtypes import cast_floating, storage_dtype
from jax_lstm._src.kernel_call import Kernel, call_with_kernel
from jax_lstm._src.plan import Events, Path, Plan
from jax_lstm._src.platforms import LoopForm, loop_forms, per_platform
from jax_lstm._src.products import loop_product, product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import (
    add,
    in_one_dtype,
    join_gates,
    split_gates,
    where_tree,
    zero_where,
    zeros_like,
)


class HSources(NamedTuple):
    """The arguments of `h_before`: the carry (h, the origin's h), and (h after each step, reset, cut)."""

    carry: tuple[Array, Array]
    steps: tuple[Array, Array | None, Array | None]

    @classmethod
    def of(cls, carry: LSTMState, origin: LSTMState, h: Array, events: Events) -> HSources:
        """Return the sources with all arrays in the dtype in which h is kept, which is that of the products."""
        return cls((carry.h.astype(h.dtype), origin.h.astype(h.dtype)), (h, events.reset, events.cut))


class Residuals(NamedTuple):
    """The arrays that give the coefficients of the loop: the weights, the events, and the fields of a `plan.Path`."""

    w_hh: Array
    w_hr: Array | None
    events: Events
    c_before: Array | None
    gates: Array


class Tangents(NamedTuple):
    """The inputs in which the loop is linear.

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
    forms = loop_forms(tangents.sums.shape[0], tangents.sums.shape[1:])
    pushed: Any = per_platform(partial(_push, plan), forms, residuals, tangents)
    return pushed


def _push(plan: Plan, form: LoopForm, residuals: Residuals, tangents: Tangents) -> Any:
    """Return `push` with its loop in one form."""
    w_hh, w_hr, events, c_before, gates = residuals
    like = tangents.carry.h
    times_hh, times_hr = loop_product(plan, w_hh, like), loop_product(plan, w_hr, like)

    def step(d_state: LSTMState, inputs: Any) -> tuple[LSTMState, Any]:
        coefficients, events, d_z, d_projected = inputs
        d_after, d_c_before = _step(
            plan, times_hh, times_hr, coefficients, events, d_state, d_z, d_projected, tangents.origin
        )
        d_h = d_after.h if plan.states else d_after.h.astype(storage_dtype(w_hh.dtype))
        return d_after, (d_h, d_after.c if plan.states else None, d_c_before)

    def block(d_state: LSTMState, inputs: Any) -> tuple[LSTMState, Any]:
        gates, c_before, events, d_sums, d_projected = inputs
        d_sums = kept_gates(form, split_gates(plan.cell, d_sums))
        steps = (_coefficients(plan, gates, c_before), events, d_sums, d_projected)
        return jax.lax.scan(step, d_state, steps, reverse=plan.reverse, unroll=plan.unroll)

    steps = (gates, c_before, events, tangents.sums, tangents.projected)
    d_last, d_steps = over_blocks(form.steps, block, tangents.carry, steps, reverse=plan.reverse)
    return d_last, *d_steps


def pull(plan: Plan, residuals: Residuals, cotangents: Any, *, projected: bool) -> Tangents:
    """Return the cotangents of the operands of `push`: its transpose.

    Args:
      plan, residuals: as for `push`.
      cotangents: the fields of `Cotangents`.
      projected: whether `push` had a tangent ``projected``.
    """
    forms = loop_forms(residuals.gates.shape[0], residuals.gates.shape[1:])

    def loop(*args: Any) -> Tangents:
        split = len(residuals)
        pulled: Any = per_platform(
            partial(_pull, plan, projected), forms, Residuals(*args[:split]), Cotangents(*args[split:])
        )
        return pulled

    kernel = _kernel(plan)
    run = loop if kernel is None else partial(call_with_kernel, kernel, loop)
    return run(*residuals, *cotangents)


def _kernel(plan: Plan) -> Kernel | None:
    """Return the kernel of `pull`. Its module is imported when a program is lowered that runs it."""
    if plan.backend != "pallas" or plan.path:  # no kernel takes the cotangents of a path
        return None
    return Kernel("tpu", partial(_pull_on_tpu, plan))


def _pull_on_tpu(plan: Plan, *args: Any, interpret: bool = False) -> Tangents:
    from jax_lstm._src.tpu_backward import run_backward

    residuals, cotangents = Residuals(*args[:5]), Cotangents(*args[5:])
    first, _ = _first_cotangents(plan, residuals, cotangents.last)
    path = Path(residuals.c_before, residuals.gates)
    sums, carry = run_backward(plan, residuals.w_hh, path, cotangents.h, first, interpret=interpret)
    return Tangents(sums, None, carry, None)


def _pull(plan: Plan, projected: bool, form: LoopForm, residuals: Residuals, cotangents: Cotangents) -> Tangents:
    """Return `pull` with its loop in one form."""
    w_hh, w_hr, events, c_before, gates = residuals
    ct_last, ct_h, ct_c, ct_c_before = cotangents
    # JAX transposes these two products, so that w is used as it lies, without `loop_product`.
    times_hh = lambda d_h: product(plan, d_h, w_hh)
    times_hr = None if w_hr is None else lambda d_m: product(plan, d_m, w_hr)
    first = _first_cotangents(plan, residuals, ct_last)
    if plan.path and c_before is not None and ct_c_before is None:
        ct_c_before = zeros_like(c_before)

    def step(carry: tuple[LSTMState, LSTMState | None], inputs: Any) -> tuple[Any, Any]:
        ct_after, ct_origin = carry
        coefficients, events, ct_h, ct_c, ct_c_before = inputs
        ct_after = LSTMState(add(ct_after.h, cast_floating(ct_h, plan.carry_dtype)), add(ct_after.c, ct_c))
        # Only the type of d_z is used.
        d_z: Any = kept_gates(form, cast_floating(coefficients[: plan.cell.num_gates], gates.dtype))
        like = Tangents(d_z, zeros_like(ct_after.h, gates.dtype) if projected else None, ct_after, ct_origin)

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
        return carry, join_gates(ct_sums), ct_projected

    steps = (c_before, events, ct_h, ct_c, ct_c_before)
    (ct_carry, ct_origin), ct_sums, ct_projected = rewrite_blocks(
        form.steps, block, first, gates, steps, reverse=not plan.reverse
    )
    return Tangents(ct_sums, ct_projected, ct_carry, ct_origin)


def _step(
    plan: Plan,
    times_hh: Callable[[Array], Array],
    times_hr: Callable[[Array], Array] | None,
    coefficients: Gates,
    events: Events,
    d_state: LSTMState,
    d_z: Gates | Array,
    d_projected: Array | None,
    d_origin: LSTMState | None,
) -> tuple[LSTMState, Array | None]:
    """Return the tangents after one step, and of c before it if the path is kept; linear in the last four arguments."""
    kept = zero_where(events.cut, d_state)
    d_before = kept if d_origin is None else where_tree(events.reset, d_origin, kept)
    # Rounded, so that in bfloat16 the transposed product has two factors of bfloat16.
    recurrent = times_hh(d_before.h).astype(jax.tree.leaves(d_z)[0].dtype)
    if isinstance(d_z, tuple):
        sums = tuple(map(jnp.add, *in_one_dtype(d_z, split_gates(plan.cell, recurrent))))
    else:
        sums = split_gates(plan.cell, jnp.add(*in_one_dtype(d_z, recurrent)))
    d_h, d_c = plan.cell.tangent(*in_one_dtype(coefficients, sums, d_before.c))
    if times_hr is not None:
        d_h = times_hr(d_h)
        d_h = d_h if d_projected is None else jnp.add(*in_one_dtype(d_h, d_projected))
    d_after = where_tree(events.valid, cast_floating(LSTMState(d_h, d_c), plan.carry_dtype), d_before, default=True)
    return d_after, d_before.c if plan.path else None


def kept_gates(form: LoopForm, gates: Gates) -> Gates | Array:
    """Return the gates of one step as a loop reads and writes them: one array per gate, or one for all gates."""
    return gates if form.gates_apart else join_gates(gates)


def _first_cotangents(plan: Plan, residuals: Residuals, ct_last: LSTMState) -> tuple[LSTMState, LSTMState | None]:
    """Return the first cotangents of the loop: of the state, and of the origin if steps can reset.

    A cotangent that is absent becomes zeros of the sharding type that the carry has.
    """
    batch = residuals.gates[0, ..., :1]
    hidden = residuals.gates.shape[-1] // plan.cell.num_gates
    widths = LSTMState(residuals.w_hh.shape[1], hidden if plan.cell.has_cell_state else None)
    zeros = jax.tree.map(
        lambda width: jnp.broadcast_to(zeros_like(batch, plan.carry_dtype), (*batch.shape[:-1], width)), widths
    )
    state = LSTMState(add(zeros.h, ct_last.h), add(zeros.c, ct_last.c))
    return state, None if residuals.events.reset is None else zeros


def _coefficients(plan: Plan, gates: Array, c_before: Array | None) -> Gates:
    values, before = in_one_dtype(split_gates(plan.cell, gates), c_before)
    return plan.cell.slopes(values, before, plan.cell.advance(values, before)[1])
