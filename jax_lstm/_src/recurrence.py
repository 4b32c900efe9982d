"""The loop over time, and its derivative.

Axes: T steps, *batch any batch axes, D inputs, H hidden, P output width (H without a projection), G = gates * H.
Everything here is time-major: ``x [T, *batch, D]``, ``h [T, *batch, P]``, ``c [T, *batch, H]``.

Forward. All inputs of a block of steps are projected in one product before the loop over these steps. The body of the
loop holds the recurrent product and the gates.

Derivative. The tangent of the recurrence is again a recurrence, and a *linear* one:

    dz_t = [dx_t W_ih' + x_t dW_ih' + db + h_{t-1} dW_hh'] + dh_{t-1} W_hh'

The bracket needs no loop: each of its terms is one product over all steps. Only ``dh_{t-1} W_hh'`` and the pointwise
coefficients of `cell.tangent` stay inside a loop. `derivative` has the products, and `tangents` has that loop and its
transpose. In reverse mode the weight gradients are therefore large products *after* the loop. One JVP rule thus gives
forward mode, reverse mode, Hessians and vmap.

The rule computes its primal by the custom_jvp function, and not by the plain loop. A second derivative then meets the
same rule again. JAX still inlines the plain loop when it partially evaluates a checkpointed region. Therefore the
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

from jax_lstm._src.arrays import Array, Gates
from jax_lstm._src.blocks import over_blocks, rewrite_blocks
from jax_lstm._src.cell_step import next_state
from jax_lstm._src.derivative import differentiate
from jax_lstm._src.dtypes import accumulation_dtype, cast_floating, storage_dtype
from jax_lstm._src.kernel_call import Kernel, call_with_kernel
from jax_lstm._src.plan import Events, Kept, Moved, Path, Plan, Trace, Weights
from jax_lstm._src.platforms import LoopForm, loop_forms, per_platform
from jax_lstm._src.products import add_bias, input_sums, loop_product, product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.tangents import kept_gates
from jax_lstm._src.trees import join_gates, split_gates, where_tree, zeros_like

T = TypeVar("T")


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recur(plan: Plan, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events) -> Trace:
    """Run one layer in one direction over ``x [T, *batch, D]`` and return its `Trace`.

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
    kernel = _kernel(plan)
    run = loop if kernel is None else partial(call_with_kernel, kernel, loop)
    trace: Trace = run(weights, x, carry, origin, events)
    return trace


def _kernel(plan: Plan) -> Kernel | None:
    """Return the kernel of the forward loop. Its module is imported when a program is lowered that runs it."""
    if plan.backend == "native":
        places = ((None, 1, 0, 0, 1), (0, 1, 1, 1))
        return Kernel("cpu", partial(_run_on_cpu, plan), places)
    if plan.backend == "pallas":
        return Kernel("tpu", partial(_run_on_tpu, plan))
    return None


def _run_on_cpu(plan: Plan, *args: Any) -> Trace:
    from jax_lstm._src.cpu_kernel import run_forward

    return run_forward(plan, *args)


def _run_on_tpu(
    plan: Plan,
    weights: Weights,
    x: Array,
    carry: LSTMState,
    origin: LSTMState,
    events: Events,
    *,
    interpret: bool = False,
) -> Trace:
    from jax_lstm._src.tpu_forward import run_forward

    return run_forward(plan, weights, x, carry, interpret=interpret)


def _run(
    plan: Plan, form: LoopForm, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events
) -> Trace:
    """Return `recur` with its loop in one form."""
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
    assert kept.path is not None
    d_weights, d_x, d_carry, d_origin, _ = jax.tree.map(_none_if_zero, tangents)
    moved = Moved(d_weights, d_x, _or_zeros(d_carry, carry), _or_zeros(d_origin, origin))
    d_trace = differentiate(plan, Kept(weights, x, carry, origin, events, kept.h, kept.path), moved)
    return kept if plan.path else kept._replace(path=None), d_trace


def _none_if_zero(tangent: T | SymbolicZero) -> T | None:
    return None if isinstance(tangent, SymbolicZero) else tangent


def _or_zeros(tangents: LSTMState, like: LSTMState) -> LSTMState:
    h, c = (
        None if b is None else zeros_like(b) if a is None else a
        for a, b in ((tangents.h, like.h), (tangents.c, like.c))
    )
    return LSTMState(h, c)
