"""The loop over time, and its derivative.

Axes: T steps, *batch any batch axes, D inputs, H hidden, P output width (H without a projection), G = gates * H.
Everything here is time-major: ``x [T, *batch, D]``, ``h [T, *batch, P]``, ``c [T, *batch, H]``.

Forward. All inputs of a block of steps are projected in one product before the loop over these steps. The body of the
loop holds the recurrent product and the gates.

Derivative. The tangent of the recurrence is again a recurrence, and a *linear* one:

    dz_t = [dx_t W_ih' + x_t dW_ih' + db + h_{t-1} dW_hh'] + dh_{t-1} W_hh'

The bracket needs no loop: each of its terms is one product over all steps. Only ``dh_{t-1} W_hh'`` and the pointwise
coefficients of `cell.tangent` stay inside a loop. `tangents` has that loop and its transpose. In reverse mode the
weight gradients are therefore large products *after* the loop. One JVP rule thus gives forward mode, reverse mode,
Hessians and vmap.

The rule computes its primal by the custom_jvp function, and not by the plain loop. A second derivative then meets the
same rule again. JAX still inlines the plain loop where it partially evaluates a checkpointed region. Therefore the
plain loop stops gradients at cuts too: without that, second derivatives under ``checkpoint_every`` would lose the
truncation.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jax_lstm._src.arrays import Array, DTypeLike, Gates
from jax_lstm._src.blocks import over_blocks, rewrite_blocks
from jax_lstm._src.cell_step import next_state
from jax_lstm._src.custom_transpose import call_with_transpose
from jax_lstm._src.dtypes import accumulation_dtype, cast_floating, storage_dtype
from jax_lstm._src.kernel_call import call_with_kernel
from jax_lstm._src.plan import Events, Path, Plan, Trace, Weights
from jax_lstm._src.platforms import LoopForm, loop_forms, per_platform
from jax_lstm._src.products import add_bias, as_it_is, input_sums, loop_product, product, weight_product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.tangents import HSources, Residuals, Tangents, h_before, kept_gates, pull, push
from jax_lstm._src.trees import add, broadcast_bias, in_one_dtype, join_gates, split_gates, where_tree, zeros_like

T = TypeVar("T")


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recur(plan: Plan, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events) -> Trace:
    """Run one layer in one direction over ``x [T, *batch, D]`` and return its :class:`Trace`.

    Args:
      plan: what is fixed while tracing.
      weights: in the dtype of x. Sums are accumulated in at least float32.
      x: the inputs.
      carry: the state that enters the first processed step, in ``plan.carry_dtype``.
      origin: the state that a reset goes back to, in ``plan.carry_dtype``. It is an argument of its own because the
        carry of a later chunk is not the origin.
      events: what happens at which step.
    """
    forms = loop_forms(x.shape[0], (*x.shape[1:-1], len(weights.ih)))
    loop = partial(per_platform, partial(_run, plan), forms)
    run = partial(call_with_kernel, partial(_run_kernel, plan), loop) if plan.kernels is not None else loop
    trace: Trace = run(weights, x, carry, origin, events)
    return trace


def _run_kernel(
    plan: Plan, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events, *, interpret: bool
) -> Trace:
    from jax_lstm._src.tpu_forward import run_forward  # imported here, so that only kernels depend on Pallas

    return run_forward(plan, weights, x, carry, interpret=interpret)


def _run(
    plan: Plan, form: LoopForm, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events
) -> Trace:
    """Return :func:`recur` with its loop in one form."""
    cell = plan.cell
    times_hh, times_hr = loop_product(plan, weights.hh, carry.h), loop_product(plan, weights.hr, carry.h)
    dtype = storage_dtype(weights.ih.dtype)

    def step(state: LSTMState, inputs: tuple[Gates, Events]) -> tuple[LSTMState, Any]:
        z, events = inputs
        before = where_tree(events.cut, jax.lax.stop_gradient(state), state)
        before = where_tree(events.reset, origin, before)
        sums = tuple(map(jnp.add, z, split_gates(cell, times_hh(before.h))))
        gates, new = next_state(cell, sums, before.c, times_hr, plan.carry_dtype)
        after = where_tree(events.valid, new, before, default=True)
        kept_h = after.h if plan.states else after.h.astype(dtype)
        kept: Any = kept_gates(form, cast_floating(gates, dtype))  # one array or one per gate; `loop` makes it one
        path = Path(before.c, kept) if plan.path else None
        return after, (kept_h, after.c if plan.states else None, path)

    def loop(state: LSTMState, sums: Gates, events: Events) -> tuple[LSTMState, Any]:
        last, (h, c, path) = jax.lax.scan(step, state, (sums, events), reverse=plan.reverse, unroll=plan.unroll)
        return last, (h, c, path and path._replace(gates=join_gates(path.gates)))

    def block(state: LSTMState, inputs: tuple[Array, Events]) -> tuple[LSTMState, Any]:
        x, events = inputs
        return loop(state, input_sums(plan, form, x, weights), events)

    def rewritten_block(state: LSTMState, sums: Array, events: Events) -> tuple[LSTMState, Array, Any]:
        last, (h, c, path) = loop(state, add_bias(plan, sums, weights.bias), events)
        return last, path.gates, (h, c, path.c_before)

    if plan.path and form.rewrites_sums and dtype == accumulation_dtype(dtype):  # the sums have the dtype of the gates
        sums = product(plan, x, weights.ih)
        last, gates, (h, c, c_before) = rewrite_blocks(
            form.steps, rewritten_block, carry, sums, events, reverse=plan.reverse
        )
        return Trace(last, h, c, Path(c_before, gates))
    last, (h, c, path) = over_blocks(form.steps, block, carry, (x, events), reverse=plan.reverse)
    return Trace(last, h, c, path)


@partial(recur.defjvp, symbolic_zeros=True)
def _recur_jvp(plan: Plan, primals: Any, tangents: Any) -> tuple[Trace, Trace]:
    weights, x, carry, origin, events = primals
    kept = recur(replace(plan, path=True), *primals)
    d_weights, d_x, d_carry, d_origin, _ = jax.tree.map(_none_if_zero, tangents)
    d_carry, d_origin = _or_zeros(d_carry, carry), _or_zeros(d_origin, origin)
    h_sources = HSources.of(carry, origin, kept.h, events)
    path = kept.path
    assert path is not None
    residuals = Residuals(weights.hh, weights.hr, events, path.c_before, path.gates)

    # 1. the terms that need no loop: one product over all steps for each weight matrix
    d_sums = _of_type(
        kept.h,
        len(weights.ih),
        storage_dtype(weights.ih.dtype),
        product(plan, d_x, weights.ih),
        weight_product(plan, as_it_is, None, x, d_weights.ih),
        weight_product(plan, partial(h_before, plan), *h_sources, d_weights.hh),
        broadcast_bias(d_weights.bias, x),
    )
    d_projected = None
    if d_weights.hr is not None:
        d_out = weight_product(plan, as_it_is, None, _unprojected(plan, path), d_weights.hr)
        d_projected = _of_type(kept.h, kept.h.shape[-1], storage_dtype(weights.hr.dtype), d_out)

    # 2. the linear loop
    operands = Tangents(d_sums, d_projected, d_carry, None if events.reset is None else d_origin)
    pulled = partial(pull, plan, projected=d_projected is not None)
    d_last, d_h, d_c, d_c_before = call_with_transpose(partial(push, plan), pulled, residuals, operands)
    if not plan.path:
        return kept._replace(path=None), Trace(d_last, d_h, d_c, None)

    # 3. the tangents of the gates, which only a second derivative needs
    d_h_sources = HSources.of(d_carry, d_origin, d_h, events)
    _, d_h_before = h_before(plan, *d_h_sources, at_cut=lambda d: jnp.zeros((), d.dtype))
    d_z = split_gates(plan.cell, jnp.add(*in_one_dtype(d_sums, product(plan, d_h_before, weights.hh))))
    slopes = plan.cell.activation_slopes(split_gates(plan.cell, path.gates.astype(d_z[0].dtype)))
    d_gates = join_gates(tuple(map(jnp.multiply, slopes, d_z))).astype(path.gates.dtype)
    return kept, Trace(d_last, d_h, d_c, Path(d_c_before, d_gates))


def _unprojected(plan: Plan, path: Path) -> Array:
    """Return m of every step: h before the projection."""
    gates, c_before = in_one_dtype(split_gates(plan.cell, path.gates), path.c_before)
    return plan.cell.advance(gates, c_before)[0]


def _of_type(h: Array, width: int, dtype: DTypeLike, *terms: Array | None) -> Array:
    """Return the sum of the terms ``[T, *batch, width]``, in the sharding type of h, whichever terms are present."""
    zero, total = zeros_like(h[..., :1], dtype), add(*terms)
    return jnp.broadcast_to(zero, (*h.shape[:-1], width)) if total is None else total.astype(dtype) + zero


def _none_if_zero(tangent: T | SymbolicZero) -> T | None:
    return None if isinstance(tangent, SymbolicZero) else tangent


def _or_zeros(tangents: LSTMState, like: LSTMState) -> LSTMState:
    h, c = (
        None if b is None else zeros_like(b) if a is None else a
        for a, b in ((tangents.h, like.h), (tangents.c, like.c))
    )
    return LSTMState(h, c)
