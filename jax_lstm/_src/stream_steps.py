"""The steps of a stream. Their bits do not depend on how many run at once, nor on the program around them.

`jax_lstm.lstm` does not promise that. It multiplies all inputs with W_ih before its loop, and how a compiler sums
a product depends on the number of rows, on the layout of the operands, and on what else is in the same loop. Therefore

(1) a step does all products of that step, with as many rows as the batch has, and
(2) a step is always the body of a loop, even if it is the only one. The compiler does not know how often the loop runs,
    and the inputs have one row more than the loop reads. Otherwise the compiler would unroll a loop of one step, or
    move the product of the only input out of it.

So the compiler sees the same loop for every number of steps and in every surrounding program. (It is not enough that
the instructions of the step are equal. In a conditional they were equal, and yet the bits differed if a layer had one
or two units. XLA on CPU compiles a loop that touches few bytes into one kernel, and a step outside a loop into
several.)

The compiled kernels for a CPU need neither (1) nor (2). They add up the terms of each sum in one order, whatever else
they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jax_lstm._src.arrays import Array
from jax_lstm._src.cell_step import next_state
from jax_lstm._src.kernel_call import Kernel, call_with_kernel
from jax_lstm._src.plan import Events, Plan, Weights
from jax_lstm._src.products import loop_product, product
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import add, broadcast_bias, split_gates, zeros_like


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def run_steps(plan: Plan, layers: list[Weights], first: list[LSTMState], x: Array) -> tuple[list[LSTMState], Array]:
    """Return the last state of every layer, and y ``[T, *batch, P]``, for x ``[T, *batch, D]``."""
    loop = partial(_loop, plan)
    if plan.backend != "native":
        return loop(layers, first, x)
    kernel = Kernel("cpu", partial(_run_on_cpu, plan), ((None, 0, 1), (0, 1)))
    result: tuple[list[LSTMState], Array] = call_with_kernel(kernel, loop, layers, first, x)
    return result


def _run_on_cpu(plan: Plan, layers: list[Weights], first: list[LSTMState], x: Array) -> tuple[list[LSTMState], Array]:
    from jax_lstm._src.cpu_kernel import run_forward

    last: list[LSTMState] = []
    for weights, carry in zip(layers, first, strict=True):
        trace = run_forward(plan, weights, x, carry, carry, Events())
        last.append(trace.last)
        x = trace.h
    return last, x


def _loop(plan: Plan, layers: list[Weights], first: list[LSTMState], x: Array) -> tuple[list[LSTMState], Array]:
    """Return `run_steps` as a loop for every platform.

    The barrier and the surplus row of x are (2) of the module's docstring. Delete them when
    tests/jax_lstm/test_streaming.py passes without them.
    """
    length = x.shape[0]
    unknown = jax.lax.optimization_barrier(jnp.asarray(length, jnp.int32))
    x = jnp.concatenate((x, zeros_like(x[:1])))
    y = jnp.broadcast_to(zeros_like(first[-1].h, x.dtype), (length + 1, *first[-1].h.shape))

    step = partial(_step_layers, plan, partial(product, plan), layers)

    def body(t: Array, carry: tuple[list[LSTMState], Array]) -> tuple[list[LSTMState], Array]:
        states, y = carry
        states, y_t = step(states, jax.lax.dynamic_index_in_dim(x, t, keepdims=False))
        return states, jax.lax.dynamic_update_index_in_dim(y, y_t, t, 0)

    last, y = jax.lax.fori_loop(0, unknown, body, (first, y))
    return last, y[:length]


@partial(run_steps.defjvp, symbolic_zeros=True)
def _run_steps_jvp(plan: Plan, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Differentiate the same steps in a loop of known length, since JAX has no reverse mode for one of unknown length.

    Two things are here for rows on a mesh that is not set, as of JAX 0.12. Zeros among the tangents are made here,
    since JAX makes them without the sharding of their primals. And products take the transposed weights, since JAX
    otherwise forgets the mesh of the weights' gradients. Delete both when test_default_mesh passes without them.
    """
    tangents = jax.tree.map(lambda a, d: zeros_like(a) if isinstance(d, SymbolicZero) else d, primals, tangents)

    def times(a: Array, w: Array) -> Array:
        return loop_product(plan, w, a)(a)

    in_scan = lambda layers, first, x: jax.lax.scan(partial(_step_layers, plan, times, layers), first, x)
    return run_steps(plan, *primals), jax.jvp(in_scan, primals, tangents)[1]


def _step_layers(
    plan: Plan, times: Callable[[Array, Array], Array], layers: list[Weights], states: list[LSTMState], x: Array
) -> tuple[list[LSTMState], Array]:
    """Return the states of all layers after one step, and y, for x ``[*batch, D]``.

    ``times(a, w)`` is the product of a with the transpose of w.
    """
    after: list[LSTMState] = []
    for weights, before in zip(layers, states, strict=True):
        bias = broadcast_bias(weights.bias, before.h)
        z: Any = add(times(x, weights.ih), times(before.h, weights.hh), bias)
        project = None if weights.hr is None else partial(_swapped, times, weights.hr)
        after.append(next_state(plan.cell, split_gates(plan.cell, z), before.c, project, plan.carry_dtype)[1])
        x = after[-1].h.astype(x.dtype)
    return after, x


def _swapped(times: Callable[[Array, Array], Array], w: Array, a: Array) -> Array:
    return times(a, w)
