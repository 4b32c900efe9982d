"""Initial states of zeros, for a state dict or for a network."""

from __future__ import annotations

from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from jax_lstm._src.arrays import DTypeLike, Params
from jax_lstm._src.checks import is_int, require_floating_dtype
from jax_lstm._src.dtypes import accumulation_dtype
from jax_lstm._src.network import Network, is_cell, read_cell, read_kind, read_network
from jax_lstm._src.state import LSTMState


def zero_state(params: Params, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> Any:
    """Return the state of zeros that a network starts from.

    Args:
      params: a state dict of torch.nn.LSTM or torch.nn.RNN as arrays, or of one of their cells.
      batch_shape: the shape of x without its time axis and D: ``()`` for no batch, ``(8,)`` or ``8`` for eight rows.
      dtype: a floating-point dtype. None means the dtype that `jax_lstm.lstm` carries by default: the dtype of the
        weights, or float32 if that is narrower.

    Returns:
      A `jax_lstm.LSTMState` with h ``[R, *batch_shape, P]`` and c ``[R, *batch_shape, H]``, R = layers * directions.
      For an RNN, only h. For a cell, the same without R.

    Raises:
      ValueError: ``params`` is no such state dict, or ``batch_shape`` has a negative size. The message names the
        argument, what is expected and what was given.
      TypeError: ``batch_shape`` is not made of integers, or ``params`` or ``dtype`` is not in floating point.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16, num_layers=2)
      >>> state = jax_lstm.zero_state(params, batch_shape=4)
      >>> state.h.shape, state.c.shape, state.h.dtype
      ((2, 4, 16), (2, 4, 16), dtype('float32'))
    """
    single = is_cell(params)
    kind = read_kind(params)
    network = read_cell(params, kind) if single else read_network(params, kind)
    if dtype is None:
        dtype = accumulation_dtype(*(value.dtype for value in params.values()))
    state = zeros_of(network, batch_shape, dtype)
    if single:
        state = jax.tree.map(lambda a: a[0], state)
    return state if kind == "lstm" else state.h


def zeros_of(network: Network, batch_shape: int | tuple[int, ...], dtype: DTypeLike) -> LSTMState:
    """Return zeros for every layer and direction of ``network``; c is None for an RNN."""
    batch = _checked_batch(batch_shape)
    require_floating_dtype("dtype", dtype)
    rows = len(network.rows)
    zeros = lambda width: jnp.zeros((rows, *batch, width), dtype)
    return LSTMState(zeros(network.output_size), zeros(network.hidden_size) if network.kind == "lstm" else None)


def _checked_batch(batch_shape: Any) -> tuple[int, ...]:
    """Return the batch axes. A size may also be a symbol of jax.export."""
    sizes = tuple(batch_shape) if isinstance(batch_shape, (tuple, list)) else (batch_shape,)
    if not all(jax.export.is_symbolic_dim(size) or is_int(size) for size in sizes):
        raise TypeError(
            f"batch_shape must be an int or a tuple of ints, x's shape without T and D; got {batch_shape!r}."
        )
    if any(is_int(size) and size < 0 for size in sizes):
        raise ValueError(f"batch_shape must have no negative size; got {batch_shape!r}.")
    return sizes
