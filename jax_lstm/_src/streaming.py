"""An LSTM one step at a time, for inputs that arrive one by one; and whole sequences by the same steps.

:func:`lstm_stream` over any cut of a sequence into chunks, :func:`lstm_step` on each step of it among them, gives the
same bits. :func:`jax_lstm.lstm` does not promise that: it multiplies all inputs with W_ih before its loop, and how a
compiler sums a product depends on how many rows it has, how its operands lie, and what else is in the same loop. So

(1) a step does all products of that step, with as many rows as there are in the batch, and
(2) is always the body of a loop, for one step too: the compiler is not told how often the loop runs, and finds more
    inputs than are read, lest it unrolls a loop of one step, or takes the product of an only input out of it.

So the compiler sees the same loop, whatever the number of steps and whatever stands around. (That the instructions of
a step be the same is not enough: behind a condition they were, and yet got other bits where a layer has one or two
units, since XLA on CPU compiles a loop that touches few bytes into one kernel, and a step outside a loop into several.)

What it costs is the one large product before the loop: to train, or to read what is there already,
:func:`jax_lstm.lstm` is the faster. Bits are those of one kind of machine, batch size, dtype and precision.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jax_lstm._src.cell import LSTM
from jax_lstm._src.dtypes import carry_dtype_of, compute_dtype
from jax_lstm._src.lstm import Params, check_state_type
from jax_lstm._src.network import Network, read_network
from jax_lstm._src.options import Options, hashable
from jax_lstm._src.products import product, step_product
from jax_lstm._src.recurrence import Events, Plan
from jax_lstm._src.single_step import check_step_input
from jax_lstm._src.stack import check_input, check_state, first_state, stack_rows, weights_of
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import add, cast, every_step, gatewise, in_one_dtype, vary_alike, zeros_like


def lstm_step(
    params: Params, x: Any, state: LSTMState | None = None, *, carry_dtype: Any = None, precision: Any = None
) -> tuple[jax.Array, LSTMState]:
    """One step of a whole network of one direction, any number of layers. Compiled as :func:`jax_lstm.lstm` is.

    Args:
      params: as :func:`jax_lstm.lstm`, without ``_reverse`` entries.
      x: ``[*batch, D]``, the inputs of this step.
      state: :class:`LSTMState` as :func:`jax_lstm.lstm` takes and gives it, h ``[L, *batch, P]`` and c ``[L, *batch,
        H]``: what the step before gave, or what :func:`jax_lstm.lstm` made of a prompt. None means zeros. Then every
        axis of x but the last is a batch axis, so that a time axis too many goes unnoticed.
      carry_dtype, precision: as :func:`jax_lstm.lstm`.

    Returns:
      y ``[*batch, P]`` in the compute dtype, and the next :class:`LSTMState`, in the carry dtype. Step by step these
      are the bits of :func:`lstm_stream`, and the numbers of :func:`jax_lstm.lstm` up to rounding. Derivatives of any
      kind are there; a gradient runs the steps twice.

    Raises:
      ValueError, TypeError: before any computation, naming the argument, what was expected and what came.
    """
    network = _of_one_direction(params, "lstm_step")
    check_state_type(state)
    _refuse_time_axis(x, state, network)
    check_step_input(x, network)
    Options(carry_dtype=carry_dtype).check((1, *x.shape))
    return _stream(network, None, params, x, state, carry_dtype, precision)


def lstm_stream(
    params: Params,
    x: Any,
    state: LSTMState | None = None,
    *,
    time_major: bool = False,
    carry_dtype: Any = None,
    precision: Any = None,
) -> tuple[jax.Array, LSTMState]:
    """A sequence, or the next chunk of one, by the steps of :func:`lstm_step`. Compiled as :func:`jax_lstm.lstm` is.

    Arguments, results and errors as :func:`jax_lstm.lstm`, for networks of one direction: x ``[*batch, T, D]`` or with
    ``time_major`` ``[T, *batch, D]``, ``state=None`` means zeros. However a sequence is cut into chunks, each starting
    from the state that the one before it gave, y and the last state have the same bits.
    """
    network = _of_one_direction(params, "lstm_stream")
    check_state_type(state)
    check_input(x, network, Options(time_major=time_major, carry_dtype=carry_dtype))
    return _stream(network, 0 if time_major else x.ndim - 2, params, x, state, carry_dtype, precision)


def _stream(network, time_axis, params, x, state, carry_dtype, precision):
    """x -> y of its layout, and the last state. ``time_axis`` is None for one step. Checks what both share."""
    batch = x.shape[:-1] if time_axis is None else (*x.shape[:time_axis], *x.shape[time_axis + 1 : -1])
    check_state("state", state, network, batch, has_cell_state=True)
    operands = jax.tree.map(jnp.asarray, (dict(params), x, state))
    return _run_layers(network, time_axis, carry_dtype, hashable(precision), *operands)


@partial(jax.jit, static_argnums=range(4))
def _run_layers(network, time_axis, carry_dtype, precision, params, x, state):
    """Compiled, lest a call outside jax.jit compiles its loop anew each time: the step of a loop is a new function."""
    params, x = vary_alike((params, x))
    x = x[None] if time_axis is None else jnp.moveaxis(x, time_axis, 0)
    dtype = compute_dtype(x, params)
    plan = Plan(LSTM, carry_dtype_of(carry_dtype, dtype), precision=precision)
    layers = [weights_of(params, f"_l{layer}", dtype) for layer in range(network.num_layers)]
    first: list[LSTMState] = []
    for layer, weights in enumerate(layers):
        like = first[-1].h[None] if first else x
        first.append(first_state(plan, network, weights, like, Events(), state, (), layer))
    last, y = _run(plan, layers, first, x.astype(dtype))
    return y[0] if time_axis is None else jnp.moveaxis(y, 0, time_axis), stack_rows(last)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(plan, layers, first, x):
    """x ``[T, *batch, D]`` -> every layer's last state, and y ``[T, *batch, P]``; see (2) of the module."""
    length = x.shape[0]
    unknown = jax.lax.optimization_barrier(jnp.asarray(length, jnp.int32))
    x = jnp.concatenate((x, zeros_like(x[:1])))
    y = jnp.broadcast_to(zeros_like(first[-1].h, x.dtype), (length + 1, *first[-1].h.shape))

    step = partial(_step, plan, partial(product, plan), layers)

    def body(t, carry):
        states, y = carry
        states, y_t = step(states, jax.lax.dynamic_index_in_dim(x, t, keepdims=False))
        return states, jax.lax.dynamic_update_index_in_dim(y, y_t, t, 0)

    last, y = jax.lax.fori_loop(0, unknown, body, (first, y))
    return last, y[:length]


@partial(_run.defjvp, symbolic_zeros=True)
def _run_jvp(plan, primals, tangents):
    """JAX has no reverse mode for a loop of unknown length, so the same steps are differentiated in one of a known.

    Two things are here for rows on a mesh that is not set, as of JAX 0.12. Zeros among the tangents are made here,
    since JAX makes them without the sharding of their primals. And products take the transposed weights, since JAX
    otherwise forgets the mesh of the weights' gradients. Delete both when test_default_mesh passes without them.
    """
    tangents = jax.tree.map(lambda a, d: zeros_like(a) if isinstance(d, SymbolicZero) else d, primals, tangents)
    times = lambda a, w: None if w is None else step_product(plan, w, a)(a)
    in_scan = lambda layers, first, x: jax.lax.scan(partial(_step, plan, times, layers), first, x)
    return _run(plan, *primals), jax.jvp(in_scan, primals, tangents)[1]


def _step(plan, times, layers, states, x):
    """All layers, ``x [*batch, D]``: their states after this step, and y. ``times(a, w)`` is the product with w^T."""
    after = []
    for weights, before in zip(layers, states, strict=True):
        bias = None if weights.bias is None else every_step(weights.bias, before.h)
        z = add(times(x, weights.ih), times(before.h, weights.hh), bias)
        m, c = plan.cell.advance(*in_one_dtype(plan.cell.activate(gatewise(plan.cell, z)), before.c))
        h = m if weights.hr is None else times(m, weights.hr)
        after.append(cast(plan, LSTMState(h, c)))
        x = after[-1].h.astype(x.dtype)
    return after, x


def _of_one_direction(params, name) -> Network:
    network = read_network(params, "lstm")
    if network.bidirectional:
        raise ValueError(
            f"{name} needs a network of one direction; params have entries such as 'weight_ih_l0_reverse', and a "
            "reverse direction starts from the sequence's end. Give the whole sequence to jax_lstm.lstm."
        )
    return network


def _refuse_time_axis(x, state, network):
    """x with a time axis has as many axes as a state, which has one for its layers."""
    shape, rows = getattr(x, "shape", ()), () if state is None else getattr(state.h, "shape", ())
    if len(shape) == len(rows) > 1 and rows[0] == network.num_layers and rows[1:-1] in (shape[:-2], shape[1:-1]):
        raise ValueError(
            f"x must be [*batch, D], one step; got shape {tuple(shape)} beside state.h {tuple(rows)}: it seems to have "
            "a time axis. Give one step, as x[..., t, :], or all of them to lstm_stream."
        )
