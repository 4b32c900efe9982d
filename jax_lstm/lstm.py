"""The LSTM as pure functions on a torch state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jax_lstm.backends import BackendChoice, choose
from jax_lstm.cell import LSTM, activate, advance
from jax_lstm.checks import require_floating
from jax_lstm.network import read_cell, read_network
from jax_lstm.options import Backend, OptionArguments, Options, Residuals, show_options
from jax_lstm.stack import run_stack
from jax_lstm.state import LSTMState

Params = Mapping[str, Any]


def lstm(
    params: Params,
    x: Any,
    state: LSTMState | None = None,
    *,
    lengths: Any = None,
    reset: Any = None,
    time_major: bool = False,
    dropout: float = 0.0,
    dropout_key: Any = None,
    checkpoint_every: int | None = None,
    truncate_every: int | None = None,
    residuals: Residuals = "fast",
    carry_dtype: Any = None,
    backend: Backend = "auto",
    unroll: int = 1,
    precision: Any = None,
) -> tuple[jax.Array, LSTMState]:
    """A multi-layer LSTM over a sequence: torch.nn.LSTM's function, on torch.nn.LSTM's weights. Call it under jax.jit.

    Axes: T steps, D inputs, H hidden, P = proj_size or H, R = layers * directions.

    Args:
      params: a torch.nn.LSTM state dict as arrays; layers, directions, sizes, biases and projection are read off
        it. :func:`init_lstm` makes one, :func:`jax_lstm.convert.from_torch` reads one.
      x: ``[*batch, T, D]``, any number of batch axes, none included; ``[T, *batch, D]`` with ``time_major``.
      state: initial :class:`LSTMState`, h ``[R, *batch, P]`` and c ``[R, *batch, H]``; None means zeros.
      lengths: int ``[*batch]`` from 0 to T, in any order. As pack_padded_sequence: outputs after a row's end are zero,
        the last state is the one at its last valid step, the reverse direction starts there. A row of length 0 gives
        its initial state. NaN or inf in the padding reaches no output and no gradient. Under jit, where values
        are unknown, a length over T counts as T and one under 0 as 0.
      reset: bool, x's shape without D. True at t is a boundary between t-1 and t in both directions: each segment
        runs alone from ``state``.
      time_major: whether T is x's first axis.
      dropout: probability of zeroing each output of every layer but the last; needs ``dropout_key``. Under shard_map
        give each shard its own key, by jax.random.fold_in of its axis_index.
      checkpoint_every: recompute the backward pass in chunks of so many steps; exact gradients, less memory.
      truncate_every: stop gradients between steps k-1 and k, 2k-1 and 2k, ... in both directions; not in a row's
        padding, through which its last state keeps its gradient.
      residuals: what a layer keeps for the backward pass, "fast" (the gates, h and c) or "lean" (x, h and c; the gates
        are recomputed, all at once: on CPU that takes more memory at the peak; there ``checkpoint_every`` saves it).
      carry_dtype: dtype of the state within the loop and of the returned state; by default the compute dtype, and
        float32 where that is narrower.
      backend: "scan", "cudnn" or "auto"; :func:`choose_backend` says what a call runs on, and why. "scan" runs every
        call on every device. "cudnn" is NVIDIA's kernel through jax.experimental.rnn: float32 on CUDA, without
        projection, ``reset``, ``truncate_every``, ``checkpoint_every`` and ``residuals="lean"``, and with first
        derivatives in reverse mode alone (forward mode is JAX's TypeError); ``unroll`` means nothing to it, vmap runs
        one element after another, and XLA cannot partition it: wrap it in shard_map, since under jit with a
        NamedSharding every device would compute the whole batch. "auto" is "scan" as long as nothing is measured.
      unroll: steps per iteration of the compiled loop.
      precision: jax.lax.Precision of every product, or its name; None leaves JAX's default.

    Returns:
      y, ``[*batch, T, directions * P]`` (or time-major) in the compute dtype, which is the result type of x and
      all weights; and the last :class:`LSTMState` in the carry dtype.

    Raises:
      ValueError, TypeError: before any computation, naming the argument, what was expected and what came.
    """
    options = Options(
        lengths=lengths,
        reset=reset,
        time_major=time_major,
        dropout=dropout,
        dropout_key=dropout_key,
        checkpoint_every=checkpoint_every,
        truncate_every=truncate_every,
        residuals=residuals,
        carry_dtype=carry_dtype,
        backend=backend,
        unroll=unroll,
        precision=precision,
    )
    check_state_type(state)
    ran = run_stack(LSTM, read_network(params, "lstm"), params, x, state, options)
    return ran.y, ran.last


@show_options
def lstm_states(
    params: Params, x: Any, state: LSTMState | None = None, **options: Unpack[OptionArguments]
) -> LSTMState:
    """The state after every step, of every layer and direction. Arguments and errors as :func:`lstm`.

    Returns:
      :class:`LSTMState` with h ``[R, *batch, T, P]`` and c ``[R, *batch, T, H]`` (``[R, T, *batch, ...]`` with
      ``time_major``) in the carry dtype, rows in torch's order; zero after a row's end.
    """
    check_state_type(state)
    states = run_stack(LSTM, read_network(params, "lstm"), params, x, state, Options(**options), keep="states").states
    assert states is not None
    return states


@show_options
def choose_backend(
    params: Params, x: Any, state: LSTMState | None = None, **options: Unpack[OptionArguments]
) -> BackendChoice:
    """What :func:`lstm` would run on with these arguments, and why; nothing is computed.

    ``params`` and ``x`` may be jax.ShapeDtypeStruct. The choice is made while tracing: a transformation around the
    call, and under jit the device of x, do not enter. Returns a :class:`BackendChoice` (backend, reason).

    Raises:
      ValueError: ``backend="cudnn"`` cannot run this call; the message says what stands against it. Others as `lstm`.
    """
    check_state_type(state)
    network = read_network(params, "lstm")
    require_floating("x", x, "[*batch, T, D] or [T, *batch, D]")
    asked = Options(**options)
    asked.check(tuple(x.shape))
    return choose(LSTM, network, x, jnp.result_type(x, *params.values()), asked, keep="h")


def lstm_cell(params: Params, state: LSTMState, x: Any, *, precision: Any = None) -> LSTMState:
    """One step of one layer: torch.nn.LSTMCell's function, on its weights.

    Args:
      params: ``weight_ih [4H, D]``, ``weight_hh [4H, H]`` and optionally ``bias_ih``, ``bias_hh [4H]``; with a
        projection ``weight_hh [4H, P]`` and ``weight_hr [P, H]``.
      state: :class:`LSTMState`, h ``[*batch, P]`` and c ``[*batch, H]``.
      x: ``[*batch, D]``.
      precision: as in :func:`lstm`.

    Returns:
      The next :class:`LSTMState`, in the given state's dtype and never narrower than float32.

    Raises:
      ValueError, TypeError: as :func:`lstm`.
    """
    if state is None:
        raise TypeError("state must be an LSTMState; got None. A first step starts from LSTMState(h=zeros, c=zeros).")
    check_state_type(state)
    network = read_cell(params, "lstm")
    check_step(x, network, {"state.h": (state.h, network.output_size), "state.c": (state.c, network.hidden_size)})
    z = sum_step(params, x, state.h, precision)
    h, c = advance(activate(tuple(jnp.split(z, LSTM.num_gates, axis=-1))), state.c)
    if "weight_hr" in params:
        h = step_product(params, x, h, "weight_hr", precision)
    wide = jnp.promote_types(jnp.result_type(state.h, state.c), jnp.float32)
    return LSTMState(h.astype(wide), c.astype(wide))


def sum_step(params: Params, x: Any, h: Any, precision: Any) -> jax.Array:
    """Every gate's sum for one step, ``[*batch, G]``, accumulated in at least float32."""
    z = step_product(params, x, x, "weight_ih", precision) + step_product(params, x, h, "weight_hh", precision)
    for name in ("bias_ih", "bias_hh"):
        if name in params:
            z = z + jnp.reshape(params[name], (*(1,) * (z.ndim - 1), -1))
    return z


def step_product(params: Params, x: Any, a: Any, name: str, precision: Any) -> jax.Array:
    """``a`` times the transpose of one weight in the compute dtype, as in the loop over time."""
    dtype = jnp.result_type(x, *params.values())
    wide = jnp.promote_types(dtype, jnp.float32)
    weight = jnp.asarray(params[name], dtype).T
    return jnp.matmul(jnp.asarray(a, dtype), weight, precision=precision, preferred_element_type=wide)


def check_step(x: Any, network, states: dict[str, tuple[Any, int]]) -> None:
    """Checks the input and state of a single step."""
    require_floating("x", x, "[*batch, D]")
    if x.ndim < 1 or x.shape[-1] != network.input_size:
        raise ValueError(f"x must be [*batch, D] with D = {network.input_size}; got shape {tuple(x.shape)}.")
    for name, (value, width) in states.items():
        require_floating(name, value, "[*batch, width]")
        expected = (*x.shape[:-1], width)
        if tuple(value.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}; got {tuple(value.shape)}.")


def check_state_type(state):
    if state is not None and not isinstance(state, LSTMState):
        raise TypeError(
            f"state must be a jax_lstm.LSTMState or None; got {type(state).__name__}. Write LSTMState(h=..., c=...): "
            "torch orders a pair (h, c) and Flax (c, h), and a swap raises nothing."
        )
