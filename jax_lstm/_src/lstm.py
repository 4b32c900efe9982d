"""The LSTM as pure functions on a torch state dict."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from jax_lstm._src.arrays import Abstract, Array, ArrayLike, DTypeLike, Listed, Params, Precision
from jax_lstm._src.backends import BackendChoice, select_backend
from jax_lstm._src.cell import LSTM
from jax_lstm._src.dtypes import compute_dtype
from jax_lstm._src.network import read_cell, read_network
from jax_lstm._src.options import Backend, OptionArguments, Options, show_options
from jax_lstm._src.single_step import run_cell
from jax_lstm._src.stack import check_input, run_stack
from jax_lstm._src.state import LSTMState


def lstm(
    params: Params,
    x: ArrayLike,
    state: LSTMState | None = None,
    *,
    lengths: Listed | None = None,
    mask: Listed | None = None,
    reset: Listed | None = None,
    reset_state: LSTMState | ArrayLike | None = None,
    time_major: bool = False,
    dropout: float = 0.0,
    dropout_key: ArrayLike | None = None,
    checkpoint_every: int | None = None,
    truncate_every: int | None = None,
    carry_dtype: DTypeLike | None = None,
    backend: Backend = "auto",
    unroll: int = 1,
    precision: Precision = None,
) -> tuple[Array, LSTMState]:
    """Run a multi-layer LSTM over a sequence, as torch.nn.LSTM does, on its weights.

    Outside jax.jit, a call is one compiled program, and so is its gradient. Each is compiled once per set of shapes,
    dtypes and options. Put a training step under jax.jit, so that the whole step is one program.

    Axes: T steps, D inputs, H hidden units, P = proj_size or H, R = layers * directions.

    Args:
      params: a torch.nn.LSTM state dict as arrays. Layers, directions, sizes, biases and projection are read from it.
        `jax_lstm.init_lstm` makes one, and `jax_lstm.convert.from_torch` reads one.
      x: ``[*batch, T, D]`` with any number of batch axes, also none; ``[T, *batch, D]`` with ``time_major``.
      state: the initial `jax_lstm.LSTMState`, h ``[R, *batch, P]`` and c ``[R, *batch, H]``; None means zeros. A batch
        axis of one element stands for the whole batch, so that a learned initial state may be ``[R, 1, P]`` and ``[R,
        1, H]``.
      lengths: int ``[*batch]`` from 0 to T, in any order, as for pack_padded_sequence. Outputs after the end of a row
        are zero, the last state is the state at its last valid step, and the reverse direction starts there. A row of
        length 0 returns its initial state. NaN or inf in the padding reaches no output and no gradient. Under jit,
        values are unknown: a length over T then counts as T, and a negative one as 0.
      mask: bool, shaped as x without D. A step with False does not take place: the state passes through it, and y is
        zero there. Holes and padding on the left are allowed, in both directions. NaN or inf at such a step reaches no
        output and no gradient. With ``lengths``, a step takes place if both allow it.
      reset: bool, shaped as x without D. True at t is a boundary between t-1 and t in both directions. The segment that
        begins a direction starts from ``state``, and every later one from ``reset_state``. A reset at a step that does
        not take place applies to the next step that does.
      reset_state: the `jax_lstm.LSTMState` that a reset goes back to, shaped as ``state``; None means zeros. It
        receives a gradient from every reset. With ``reset_state=state``, each segment starts from ``state``.
      time_major: whether T is the first axis of x.
      dropout: probability of setting an output of any layer but the last to zero; it needs ``dropout_key``. Under
        shard_map, give each shard its own key, by jax.random.fold_in of its axis_index.
      dropout_key: a jax.random key, a new one per call.
      checkpoint_every: number of steps k per chunk. The backward pass recomputes one chunk after another. Gradients
        stay exact and memory is smaller. None: no chunks.
      truncate_every: number of steps k. Gradients stop between steps k-1 and k, 2k-1 and 2k, ... in both directions.
        Nothing stops before the first step of a row that takes place, or after the last one: the states keep their
        gradients through padding.
      carry_dtype: dtype of the state in the loop and of the returned state. None means the compute dtype, or float32 if
        the compute dtype is narrower.
      backend: the implementation that runs the call. `jax_lstm.choose_backend` returns the choice for a call, and the
        reason.

        - "auto" is "native" if it can run the call, except for a single step and for a few steps of one row. Otherwise
          it is "scan". No measurement favours another one yet.
        - "scan" runs every call on every device, as loops that XLA compiles.
        - "native" runs our compiled kernels on a CPU: float32 or float64 with a carry of the same dtype, without a
          projection. See the page "CPU kernels" (docs/cpu.md) for what it runs, and for what runs the loops of "scan"
          instead.
        - "cudnn" runs NVIDIA's kernel through jax.experimental.rnn: float32 on CUDA, without projection, ``mask``,
          ``reset``, ``truncate_every`` and ``checkpoint_every``. It has first derivatives in reverse mode only (forward
          mode raises JAX's TypeError). It ignores ``unroll``, and vmap runs one element after another. XLA cannot
          partition it: wrap it in shard_map, since under jit with a NamedSharding every device would compute the whole
          batch.
        - "pallas" runs our own kernels for a TPU: float32 or bfloat16 with a float32 carry, without projection,
          ``lengths``, ``mask``, ``reset`` and ``truncate_every``. See the page "TPU and GPU" (docs/accelerators.md) for
          what runs the loops of "scan" instead.

      unroll: steps per iteration of the loops of "scan".
      precision: jax.lax.Precision of every product, or its name; None means JAX's default. By default a TPU rounds the
        factors of a float32 product to bfloat16, and a GPU to TF32. "highest" means full float32 products everywhere.

    Returns:
      y ``[*batch, T, directions * P]`` (or time-major) in the compute dtype, which is the result type of x and all
      weights; and the last `jax_lstm.LSTMState` in the carry dtype.

    Raises:
      ValueError: a value or a shape is wrong, or ``backend`` cannot run the call. It is raised before any computation.
        The message names the argument, what is expected and what was given.
      TypeError: a type or a dtype is wrong. It is raised in the same way.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16, num_layers=2)
      >>> x = jnp.ones((4, 10, 8))  # [*batch, T, D]
      >>> y, state = jax_lstm.lstm(params, x, lengths=jnp.array([10, 7, 3, 0]))
      >>> y.shape, state.h.shape, state.c.shape
      ((4, 10, 16), (2, 4, 16), (2, 4, 16))
      >>> bool((y[1, 7:] == 0).all())  # the padding of the second row
      True
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
        carry_dtype=carry_dtype,
        backend=backend,
        unroll=unroll,
        precision=precision,
    )
    check_state_type(state)
    check_state_type(reset_state, "reset_state")
    result = run_stack(LSTM, read_network(params, "lstm"), params, x, state, options)
    return result.y, result.last


@show_options
def lstm_states(
    params: Params, x: ArrayLike, state: LSTMState | None = None, **options: Unpack[OptionArguments]
) -> LSTMState:
    """Return the state after every step, for every layer and direction.

    Args:
      params: a torch.nn.LSTM state dict as arrays, as for `jax_lstm.lstm`.
      x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
      state: the initial `jax_lstm.LSTMState`, as for `jax_lstm.lstm`; None means zeros.
      **options: the options of `jax_lstm.lstm`, with the same meaning.

    Returns:
      A `jax_lstm.LSTMState` with h ``[R, *batch, T, P]`` and c ``[R, *batch, T, H]`` (``[R, T, *batch, ...]`` with
      ``time_major``) in the carry dtype, rows in torch's order. It is zero at steps that do not take place.

    Raises:
      ValueError: as `jax_lstm.lstm`.
      TypeError: as `jax_lstm.lstm`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16, num_layers=2)
      >>> states = jax_lstm.lstm_states(params, jnp.ones((4, 10, 8)))
      >>> states.h.shape, states.c.shape
      ((2, 4, 10, 16), (2, 4, 10, 16))
    """
    check_state_type(state)
    check_state_type(options.get("reset_state"), "reset_state")
    states = run_stack(LSTM, read_network(params, "lstm"), params, x, state, Options(**options), keep="states").states
    assert states is not None
    return states


@show_options
def choose_backend(
    params: Params, x: Abstract, state: LSTMState | None = None, **options: Unpack[OptionArguments]
) -> BackendChoice:
    """Return the backend that `jax_lstm.lstm` would run on with these arguments, and the reason. Nothing is computed.

    The choice is made while tracing. It does not depend on a transformation around the call, nor, under jit, on the
    device of x.

    Args:
      params: as for `jax_lstm.lstm`; also arrays of jax.ShapeDtypeStruct.
      x: as for `jax_lstm.lstm`; also a jax.ShapeDtypeStruct.
      state: as for `jax_lstm.lstm`; also of jax.ShapeDtypeStruct.
      **options: the options of `jax_lstm.lstm`, with the same meaning.

    Returns:
      A `jax_lstm.BackendChoice` (backend, reason).

    Raises:
      ValueError: the given backend cannot run this call; the message says why. Also as `jax_lstm.lstm`.
      TypeError: as `jax_lstm.lstm`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
      >>> x = jax.ShapeDtypeStruct((4, 10, 8), jnp.bfloat16)
      >>> jax_lstm.choose_backend(params, x, backend="scan")
      BackendChoice(backend='scan', reason='asked for')
    """
    check_state_type(state)
    check_state_type(options.get("reset_state"), "reset_state")
    network = read_network(params, "lstm")
    settings = Options(**options)
    check_input(x, network, settings)
    return select_backend(LSTM, network, x, compute_dtype(x, params), settings, keep="h")


def lstm_cell(
    params: Params,
    state: LSTMState | None,
    x: ArrayLike,
    *,
    carry_dtype: DTypeLike | None = None,
    precision: Precision = None,
) -> LSTMState:
    """Run one step of one layer, as torch.nn.LSTMCell does, on its weights.

    Args:
      params: arrays by torch.nn.LSTMCell's names: ``weight_ih [4H, D]``, ``weight_hh [4H, H]`` and optionally
        ``bias_ih``, ``bias_hh [4H]``. With a projection ``weight_hh [4H, P]`` and ``weight_hr [P, H]``.
      state: a `jax_lstm.LSTMState`, h ``[*batch, P]`` and c ``[*batch, H]``; None means zeros. A batch axis may have
        one element, which stands for the whole batch.
      x: ``[*batch, D]``.
      carry_dtype: dtype of the returned state. None means the widest dtype of state, x and weights, or float32 if all
        are narrower. jax.lax.scan requires the same dtype before and after a step, so that a bfloat16 state there needs
        ``carry_dtype=jnp.bfloat16``. Products are computed in the result type of x and the weights, whatever the dtype
        of the state.
      precision: as for `jax_lstm.lstm`.

    Returns:
      The next `jax_lstm.LSTMState`, h ``[*batch, P]`` and c ``[*batch, H]``.

    Raises:
      ValueError: as `jax_lstm.lstm`.
      TypeError: as `jax_lstm.lstm`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
      >>> cell = jax_lstm.convert.cell(params)  # by torch.nn.LSTMCell's names
      >>> state = None
      >>> for x_t in jnp.ones((10, 4, 8)):
      ...     state = jax_lstm.lstm_cell(cell, state, x_t)
      >>> state.h.shape, state.c.shape
      ((4, 16), (4, 16))
    """
    check_state_type(state)
    return run_cell(LSTM, read_cell(params, "lstm"), params, state, x, carry_dtype, precision)


def check_state_type(state: Any, name: str = "state") -> None:
    """Raise TypeError unless a state is an LSTMState or None."""
    if state is not None and not isinstance(state, LSTMState):
        if np.issubdtype(getattr(state, "dtype", np.void), np.integer):
            raise TypeError(
                f"{name} must be a jax_lstm.LSTMState or None; got integers. Give lengths by name: lengths=..."
            )
        raise TypeError(
            f"{name} must be a jax_lstm.LSTMState or None; got {type(state).__name__}. Write LSTMState(h=..., c=...): "
            "torch orders a pair (h, c) and Flax (c, h), and a swap raises nothing."
        )
