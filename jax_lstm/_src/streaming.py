"""An LSTM one step at a time, for inputs that arrive one by one; and whole sequences by the same steps.

:func:`lstm_stream` returns the same bits for every division of a sequence into chunks, and :func:`lstm_step` on each
step returns these bits too. :func:`jax_lstm.lstm` does not promise that. It multiplies all inputs with W_ih before its
loop, and how a compiler sums a product depends on the number of rows, on the layout of the operands, and on what else
is in the same loop. Therefore

(1) a step does all products of that step, with as many rows as the batch has, and
(2) a step is always the body of a loop, also if it is the only one. The compiler does not know how often the loop runs,
    and the inputs are one longer than what is read. Otherwise the compiler would unroll a loop of one step, or move
    the product of the only input out of it.

So the compiler sees the same loop for every number of steps and in every surrounding program. (Equal instructions of
the step are not enough. Under a condition they were equal, and yet the bits differed if a layer had one or two units:
XLA on CPU compiles a loop that touches few bytes into one kernel, and a step outside a loop into several.)

The compiled kernels for a CPU need neither. They add up the terms of each sum in one order, whatever else they compute.
So a program for a CPU runs them, layer by layer, if they can run the network and there are two rows or more. For one
row, a single step of the loop is faster: the kernels rearrange the weights before they multiply them. A sequence of one
row would be faster on the kernels, but it must have the bits of its steps. `python -m benchmarks.serving` times both.

To train, or to read a sequence that exists already, :func:`jax_lstm.lstm` is faster than the loop, since it multiplies
all inputs with W_ih at once. The promise holds on one kind of machine, for one batch size, dtype and precision. It
holds between programs that all run the kernels or all run the loop: an exported program, or one for several devices,
runs the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Params, Precision
from jax_lstm._src.backends import obstacles_to_native, refuse
from jax_lstm._src.cell import LSTM
from jax_lstm._src.cell_step import next_state
from jax_lstm._src.dtypes import carry_dtype_of, compute_dtype
from jax_lstm._src.kernel_call import Kernel, call_with_kernel
from jax_lstm._src.lstm import check_state_type
from jax_lstm._src.network import Network, read_network
from jax_lstm._src.options import Backend, Options, hashable
from jax_lstm._src.plan import Events, Plan, Weights
from jax_lstm._src.products import loop_product, product
from jax_lstm._src.single_step import check_step_input
from jax_lstm._src.stack import check_input, check_state, first_state, layer_weights, stack_rows
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import add, broadcast_bias, split_gates, vary_alike, zeros_like


def lstm_step(
    params: Params,
    x: ArrayLike,
    state: LSTMState | None = None,
    *,
    carry_dtype: DTypeLike | None = None,
    precision: Precision = None,
    backend: Backend = "auto",
) -> tuple[Array, LSTMState]:
    """Run one step of a network of one direction, with any number of layers.

    It is compiled as :func:`jax_lstm.lstm` is.

    Args:
      params: as for :func:`jax_lstm.lstm`, without ``_reverse`` entries.
      x: ``[*batch, D]``, the inputs of this step.
      state: the :class:`LSTMState` that the step before returned, or that :func:`jax_lstm.lstm` returned for a prompt:
        h ``[L, *batch, P]`` and c ``[L, *batch, H]``. None means zeros. With None, every axis of x but the last is a
        batch axis, so that a surplus time axis is not detected.
      carry_dtype, precision: as for :func:`jax_lstm.lstm`.
      backend: "scan" for a loop of XLA's on every platform, which is also what an exported program runs. "native" for
        the compiled kernels in a program for a CPU. "auto" is "native" for two rows or more, if it can run them, and
        "scan" for one row, for which it is faster. "cudnn" and "pallas", which a module may have, run "scan" here. The
        bits of the two differ.

    Returns:
      y ``[*batch, P]`` in the compute dtype, and the next :class:`LSTMState` in the carry dtype. Step by step these
      have the bits of :func:`lstm_stream`, and they agree with :func:`jax_lstm.lstm` within rounding. All kinds of
      derivatives work. A gradient runs the steps twice.

    Raises:
      ValueError, TypeError: before any computation. The message names the argument, what was expected and what came.
        ValueError also if "native" is asked for and cannot run the network; the message says why.

    Example:
      >>> state = None
      >>> for x_t in inputs:  # each [*batch, D]
      ...     y, state = jax_lstm.lstm_step(params, x_t, state)
    """
    network = _one_direction(params, "lstm_step")
    check_state_type(state)
    _refuse_time_axis(x, state, network)
    check_step_input(x, network)
    options = Options(carry_dtype=carry_dtype, precision=precision, backend=backend)
    options.check((1, *x.shape))
    return _stream(network, None, params, x, state, options)


def lstm_stream(
    params: Params,
    x: ArrayLike,
    state: LSTMState | None = None,
    *,
    time_major: bool = False,
    carry_dtype: DTypeLike | None = None,
    precision: Precision = None,
    backend: Backend = "auto",
) -> tuple[Array, LSTMState]:
    """Run a sequence, or the next chunk of one, by the steps of :func:`lstm_step`.

    It is compiled as :func:`jax_lstm.lstm` is. If each chunk starts from the state that the chunk before it returned,
    y and the last state have the same bits for every division of the sequence into chunks.

    Args:
      params: as for :func:`jax_lstm.lstm`, without ``_reverse`` entries.
      x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
      state: :class:`LSTMState` with h ``[L, *batch, P]`` and c ``[L, *batch, H]``; None means zeros.
      time_major, carry_dtype, precision: as for :func:`jax_lstm.lstm`.
      backend: as for :func:`lstm_step`.

    Returns:
      y and the last :class:`LSTMState`, as :func:`jax_lstm.lstm`.

    Raises:
      ValueError, TypeError: as :func:`jax_lstm.lstm`; ValueError if the network has two directions.
    """
    network = _one_direction(params, "lstm_stream")
    check_state_type(state)
    options = Options(time_major=time_major, carry_dtype=carry_dtype, precision=precision, backend=backend)
    check_input(x, network, options)
    return _stream(network, 0 if time_major else x.ndim - 2, params, x, state, options)


def _stream(
    network: Network,
    time_axis: int | None,
    params: Params,
    x: ArrayLike,
    state: LSTMState | None,
    options: Options,
) -> tuple[Array, LSTMState]:
    """Return y in the layout of x, and the last state. ``time_axis`` is None for one step."""
    check_state("state", state, network, _batch_of(x.shape, time_axis), has_cell_state=True)
    params, inputs, state = jax.tree.map(jnp.asarray, (dict(params), x, state))
    plan = _plan(network, params, inputs, time_axis, options)
    y, last = _run_stream(network, time_axis, plan, params, inputs, state)
    return y, last


def _plan(network: Network, params: Params, x: Array, time_axis: int | None, options: Options) -> Plan:
    """Return how to run. The choice must not depend on the number of steps: the bits would."""
    dtype = compute_dtype(x, params)
    shape = (1, *x.shape) if time_axis is None else (x.shape[time_axis], *_batch_of(x.shape, time_axis), x.shape[-1])
    steps = jax.ShapeDtypeStruct(shape, x.dtype)
    obstacles = obstacles_to_native(LSTM, network, steps, dtype, replace(options, time_major=True))
    if options.backend == "native":
        refuse("native", obstacles)
    by_itself = options.backend == "auto" and not obstacles and math.prod(shape[1:-1]) > 1
    return Plan(
        LSTM,
        carry_dtype_of(options.carry_dtype, dtype),
        precision=hashable(options.precision),
        batch_first=time_axis not in (None, 0),
        backend="native" if by_itself or options.backend == "native" else "scan",
    )


def _batch_of(shape: tuple[int, ...], time_axis: int | None) -> tuple[int, ...]:
    return shape[:-1] if time_axis is None else (*shape[:time_axis], *shape[time_axis + 1 : -1])


@partial(jax.jit, static_argnums=range(3))
def _run_stream(
    network: Network,
    time_axis: int | None,
    plan: Plan,
    params: dict[str, Array],
    x: Array,
    state: LSTMState | None,
) -> tuple[Array, LSTMState]:
    """Run the steps, compiled.

    Without jax.jit here, a call outside jax.jit would compile its loop again each time, since the step of a loop is a
    new function each time.
    """
    params, x = vary_alike((params, x))
    x = x[None] if time_axis is None else jnp.moveaxis(x, time_axis, 0)
    dtype = compute_dtype(x, params)
    layers = [layer_weights(params, f"_l{layer}", dtype) for layer in range(network.num_layers)]
    first: list[LSTMState] = []
    for layer, weights in enumerate(layers):
        like = first[-1].h[None] if first else x
        first.append(first_state(plan, network, weights, like, Events(), state, (), layer))
    last, y = _run_steps(plan, layers, first, x.astype(dtype))
    return y[0] if time_axis is None else jnp.moveaxis(y, 0, time_axis), stack_rows(last)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run_steps(plan: Plan, layers: list[Weights], first: list[LSTMState], x: Array) -> tuple[list[LSTMState], Array]:
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
    """Return :func:`_run_steps` as a loop for every platform.

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


@partial(_run_steps.defjvp, symbolic_zeros=True)
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
    return _run_steps(plan, *primals), jax.jvp(in_scan, primals, tangents)[1]


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


def _one_direction(params: Params, name: str) -> Network:
    network = read_network(params, "lstm")
    if network.bidirectional:
        raise ValueError(
            f"{name} needs a network of one direction; params have entries such as 'weight_ih_l0_reverse', and a "
            "reverse direction starts from the sequence's end. Give the whole sequence to jax_lstm.lstm."
        )
    return network


def _refuse_time_axis(x: ArrayLike, state: LSTMState | None, network: Network) -> None:
    """Raise ValueError if x seems to have a time axis: it has as many axes as a state, which has one for layers."""
    shape: tuple[Any, ...] = getattr(x, "shape", ())
    rows: tuple[Any, ...] = () if state is None else getattr(state.h, "shape", ())
    if len(shape) == len(rows) > 1 and rows[0] == network.num_layers and rows[1:-1] in (shape[:-2], shape[1:-1]):
        raise ValueError(
            f"x must be [*batch, D], one step; got shape {tuple(shape)} beside state.h {tuple(rows)}: it seems to have "
            "a time axis. Give one step, as x[..., t, :], or all of them to lstm_stream."
        )
