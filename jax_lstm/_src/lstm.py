"""The LSTM as pure functions on a torch state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jax_lstm._src.backends import BackendChoice, choose
from jax_lstm._src.cell import LSTM, activate, advance
from jax_lstm._src.dtypes import compute_dtype
from jax_lstm._src.network import read_cell, read_network
from jax_lstm._src.options import Backend, OptionArguments, Options, Residuals, show_options
from jax_lstm._src.single_step import check_step_input, checked_state, gate_sums, next_dtype, step_product, zeros_for
from jax_lstm._src.stack import check_input, run_stack
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import in_one_dtype, vary_alike

Params = Mapping[str, Any]


def lstm(
    params: Params,
    x: Any,
    state: LSTMState | None = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reset_state: Any = None,
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
    """A multi-layer LSTM over a sequence: torch.nn.LSTM's function, on torch.nn.LSTM's weights.

    Outside jax.jit a call is one compiled program, and so is its gradient. They are compiled once for each set of
    shapes, dtypes and options. Put a training step under jax.jit, so that all of it is one program.

    Axes: T steps, D inputs, H hidden, P = proj_size or H, R = layers * directions.

    Args:
      params: a torch.nn.LSTM state dict as arrays; layers, directions, sizes, biases and projection are read off
        it. :func:`init_lstm` makes one, :func:`jax_lstm.convert.from_torch` reads one.
      x: ``[*batch, T, D]``, any number of batch axes, none included; ``[T, *batch, D]`` with ``time_major``.
      state: initial :class:`LSTMState`, h ``[R, *batch, P]`` and c ``[R, *batch, H]``; None means zeros. A batch axis
        of one element stands for the whole batch, so a learned initial state may be ``[R, 1, P]`` and ``[R, 1, H]``.
      lengths: int ``[*batch]`` from 0 to T, in any order. As pack_padded_sequence: outputs after a row's end are zero,
        the last state is the one at its last valid step, the reverse direction starts there. A row of length 0 gives
        its initial state. NaN or inf in the padding reaches no output and no gradient. Under jit, where values
        are unknown, a length over T counts as T and one under 0 as 0.
      mask: bool, x's shape without D. A step with False does not take place: the state passes through it, and y is
        zero there. Holes and padding on the left are fine, in both directions. NaN or inf at such a step reaches no
        output and no gradient. With ``lengths``, a step takes place if both say so.
      reset: bool, x's shape without D. True at t is a boundary between t-1 and t in both directions. The segment that
        begins a direction starts from ``state``, every later one from ``reset_state``. A reset at a step that does not
        take place holds for the next one that does.
      reset_state: the :class:`LSTMState` that a reset goes back to, shaped as ``state``; None means zeros. It receives
        a gradient from every reset. ``reset_state=state`` runs each segment from ``state``.
      time_major: whether T is x's first axis.
      dropout: probability of zeroing each output of every layer but the last; needs ``dropout_key``. Under shard_map
        give each shard its own key, by jax.random.fold_in of its axis_index.
      checkpoint_every: recompute the backward pass in chunks of so many steps; exact gradients, less memory.
      truncate_every: stop gradients between steps k-1 and k, 2k-1 and 2k, ... in both directions. Before the first step
        of a row that takes place, and after the last one, nothing is stopped: the states keep their gradients through
        padding.
      residuals: what a layer keeps for the backward pass, "fast" (the gates, h and c) or "lean" (x, h and c; the gates
        are recomputed, all at once: on CPU that takes more memory at the peak; there ``checkpoint_every`` saves it).
      carry_dtype: dtype of the state within the loop and of the returned state; by default the compute dtype, and
        float32 where that is narrower.
      backend: "scan", "cudnn" or "auto"; :func:`choose_backend` says what a call runs on, and why. "scan" runs every
        call on every device. "cudnn" is NVIDIA's kernel through jax.experimental.rnn: float32 on CUDA, without
        projection, ``mask``, ``reset``, ``truncate_every``, ``checkpoint_every`` and ``residuals="lean"``. It has
        first derivatives in reverse mode only (forward mode is JAX's TypeError). ``unroll`` means nothing to it, and
        vmap runs one element after another. XLA cannot partition it: wrap it in shard_map, since under jit with a
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
        mask=mask,
        reset=reset,
        reset_state=reset_state,
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
    check_state_type(reset_state, "reset_state")
    ran = run_stack(LSTM, read_network(params, "lstm"), params, x, state, options)
    return ran.y, ran.last


@show_options
def lstm_states(
    params: Params, x: Any, state: LSTMState | None = None, **options: Unpack[OptionArguments]
) -> LSTMState:
    """The state after every step, of every layer and direction. Arguments and errors as :func:`lstm`.

    Returns:
      :class:`LSTMState` with h ``[R, *batch, T, P]`` and c ``[R, *batch, T, H]`` (``[R, T, *batch, ...]`` with
      ``time_major``) in the carry dtype, rows in torch's order; zero at steps that do not take place.
    """
    check_state_type(state)
    check_state_type(options.get("reset_state"), "reset_state")
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
    check_state_type(options.get("reset_state"), "reset_state")
    network = read_network(params, "lstm")
    asked = Options(**options)
    check_input(x, network, asked)
    return choose(LSTM, network, x, compute_dtype(x, params), asked, keep="h")


def lstm_cell(
    params: Params, state: LSTMState | None, x: Any, *, carry_dtype: Any = None, precision: Any = None
) -> LSTMState:
    """One step of one layer: torch.nn.LSTMCell's function, on its weights.

    Args:
      params: ``weight_ih [4H, D]``, ``weight_hh [4H, H]`` and optionally ``bias_ih``, ``bias_hh [4H]``; with a
        projection ``weight_hh [4H, P]`` and ``weight_hr [P, H]``.
      state: :class:`LSTMState`, h ``[*batch, P]`` and c ``[*batch, H]``, where a batch axis may have one element that
        stands for the whole batch; None means zeros.
      x: ``[*batch, D]``.
      carry_dtype: dtype of the returned state. None means the widest dtype of state, x and weights, and float32 if all
        are narrower. Under jax.lax.scan, which wants the same dtype before and after a step, a bfloat16 state needs
        ``carry_dtype=jnp.bfloat16``. Products are computed in the result type of x and the weights, whatever the state.
      precision: as in :func:`lstm`.

    Returns:
      The next :class:`LSTMState`, h ``[*batch, P]`` and c ``[*batch, H]``.

    Raises:
      ValueError, TypeError: as :func:`lstm`.
    """
    check_state_type(state)
    network = read_cell(params, "lstm")
    check_step_input(x, network)
    params, x = vary_alike((dict(params), x))
    if state is None:
        h, c = (zeros_for(params, x, width) for width in (network.output_size, network.hidden_size))
    else:
        h = checked_state("state.h", state.h, x, network.output_size)
        c = checked_state("state.c", state.c, x, network.hidden_size)
    carry = next_dtype(carry_dtype, params, x, h, c)
    z = gate_sums(params, x, h, precision)
    gates = activate(tuple(jnp.split(z, LSTM.num_gates, axis=-1)))
    h, c = advance(*in_one_dtype(gates, c))
    if "weight_hr" in params:
        h = step_product(params, x, h, "weight_hr", precision)
    return LSTMState(h.astype(carry), c.astype(carry))


def check_state_type(state, name="state"):
    if state is not None and not isinstance(state, LSTMState):
        raise TypeError(
            f"{name} must be a jax_lstm.LSTMState or None; got {type(state).__name__}. Write LSTMState(h=..., c=...): "
            "torch orders a pair (h, c) and Flax (c, h), and a swap raises nothing."
        )
