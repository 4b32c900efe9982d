"""An LSTM one step at a time, for inputs that arrive one by one, and whole sequences by the same steps.

`lstm_stream` returns the same bits for every division of a sequence into chunks, and `lstm_step` on each
step returns these bits too. `stream_steps` says how. The promise holds on one kind of machine, for one batch size,
dtype and precision. It holds between programs that all run the compiled kernels or all run the loop. A program runs
the loop if it is exported, if it is for several devices, or if it is mapped over weights.

A program for a CPU runs the kernels if they can run the network and there are two rows or more. For one row, a single
step of the loop is faster: the kernels rearrange the weights before they multiply them. A sequence of one row would be
faster on the kernels, but it must have the bits of its steps. `python -m benchmarks.serving` times both.

To train, or to read a sequence that exists already, `jax_lstm.lstm` is faster than the loop, since it multiplies
all inputs with W_ih at once.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, ArrayLike, DType, DTypeLike, Params, Precision
from jax_lstm._src.backends import obstacles_to_native, refuse
from jax_lstm._src.blocks import are_known
from jax_lstm._src.cell import LSTM
from jax_lstm._src.dtypes import carry_dtype_of, compute_dtype
from jax_lstm._src.lstm import check_state_type
from jax_lstm._src.network import Network, read_network
from jax_lstm._src.options import Backend, Options, hashable
from jax_lstm._src.plan import Events, Plan
from jax_lstm._src.single_step import check_step_input
from jax_lstm._src.stack import check_input, check_state, first_state, layer_weights, stack_rows
from jax_lstm._src.state import LSTMState
from jax_lstm._src.stream_steps import run_steps
from jax_lstm._src.trees import vary_alike


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

    It is compiled as `jax_lstm.lstm` is.

    Args:
      params: as for `jax_lstm.lstm`, without ``_reverse`` entries.
      x: ``[*batch, D]``, the inputs of this step.
      state: the `jax_lstm.LSTMState` that the step before returned, or that `jax_lstm.lstm` returned for a prompt: h
        ``[L, *batch, P]`` and c ``[L, *batch, H]``. None means zeros. With None, every axis of x but the last is a
        batch axis, so that a surplus time axis is not detected.
      carry_dtype: dtype of the state, as for `jax_lstm.lstm`.
      precision: as for `jax_lstm.lstm`.
      backend: the implementation that runs the step. "native" and "scan" differ in bits.

        - "auto" is "native" for two rows or more, if it can run them. For one row it is "scan", since a single step is
          then faster. A long sequence of one row is faster with "native".
        - "scan" is a loop of XLA's on every platform. An exported program runs it too.
        - "native" runs the compiled kernels in a program for a CPU.
        - "cudnn" and "pallas", which a module may have, run "scan" here.

    Returns:
      y ``[*batch, P]`` in the compute dtype, and the next `jax_lstm.LSTMState` in the carry dtype. Step by step these
      have the bits of `jax_lstm.lstm_stream`, and they agree with `jax_lstm.lstm` within rounding. All kinds of
      derivatives work. A gradient runs the steps twice.

    Raises:
      ValueError: a value or a shape is wrong, the network has two directions, or "native" is requested and cannot run
        the network. It is raised before any computation. The message names the argument, what is expected and what was
        given.
      TypeError: a type or a dtype is wrong. It is raised in the same way.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16, num_layers=2)
      >>> state = None
      >>> for x_t in jnp.ones((10, 4, 8)):
      ...     y, state = jax_lstm.lstm_step(params, x_t, state)
      >>> y.shape, state.h.shape
      ((4, 16), (2, 4, 16))
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
    """Run a sequence, or the next chunk of one, by the steps of `jax_lstm.lstm_step`.

    It is compiled as `jax_lstm.lstm` is. If each chunk starts from the state that the chunk before it returned, y and
    the last state have the same bits for every division of the sequence into chunks.

    Args:
      params: as for `jax_lstm.lstm`, without ``_reverse`` entries.
      x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
      state: the initial `jax_lstm.LSTMState`, h ``[L, *batch, P]`` and c ``[L, *batch, H]``; None means zeros.
      time_major: whether T is the first axis of x.
      carry_dtype: dtype of the state, as for `jax_lstm.lstm`.
      precision: as for `jax_lstm.lstm`.
      backend: as for `jax_lstm.lstm_step`.

    Returns:
      y ``[*batch, T, P]`` (or time-major) in the compute dtype, and the last `jax_lstm.LSTMState` in the carry dtype.

    Raises:
      ValueError: as `jax_lstm.lstm_step`.
      TypeError: as `jax_lstm.lstm_step`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
      >>> x = jax.random.normal(jax.random.key(1), (4, 10, 8))
      >>> whole, _ = jax_lstm.lstm_stream(params, x)
      >>> first, state = jax_lstm.lstm_stream(params, x[:, :3])
      >>> second, _ = jax_lstm.lstm_stream(params, x[:, 3:], state)
      >>> bool((jnp.concatenate((first, second), axis=1) == whole).all())
      True
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
    dtype = compute_dtype(x, params)
    return Plan(
        LSTM,
        carry_dtype_of(options.carry_dtype, dtype),
        precision=hashable(options.precision),
        batch_first=time_axis not in (None, 0),
        backend=_backend(network, x, _batch_of(x.shape, time_axis), dtype, options),
    )


def _backend(
    network: Network, x: Array, batch: tuple[int, ...], dtype: DType, options: Options
) -> Literal["scan", "native"]:
    """Return what runs the steps. It must not depend on their number, since the bits would."""
    several_rows = are_known(*batch) and math.prod(batch) > 1
    asked = options.backend == "native"
    if not asked and not (options.backend == "auto" and several_rows):
        return "scan"
    obstacles = obstacles_to_native(LSTM, network, x, dtype, options)
    if asked:
        refuse("native", obstacles)
    return "scan" if obstacles else "native"


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
    last, y = run_steps(plan, layers, first, x.astype(dtype))
    return y[0] if time_axis is None else jnp.moveaxis(y, 0, time_axis), stack_rows(last)


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
