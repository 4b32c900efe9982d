"""The Elman RNN as pure functions on a torch.nn.RNN state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import jax

from jax_lstm._src.elman import NONLINEARITIES, Nonlinearity
from jax_lstm._src.network import read_cell, read_network
from jax_lstm._src.options import OptionArguments, Options, show_options
from jax_lstm._src.single_step import check_step_input, checked_state, gate_sums, next_dtype, zeros_for
from jax_lstm._src.stack import run_stack
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import vary_alike

Params = Mapping[str, Any]


@show_options
def rnn(
    params: Params, x: Any, h: Any = None, *, nonlinearity: Nonlinearity = "tanh", **options: Unpack[OptionArguments]
) -> tuple[jax.Array, jax.Array]:
    """A multi-layer Elman RNN over a sequence: torch.nn.RNN's function, on torch.nn.RNN's weights.

    Args:
      params: a torch.nn.RNN state dict as arrays; layers, directions, sizes and biases are read off it.
      x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
      h: initial hidden state ``[layers * directions, *batch, H]``; None means zeros.
      nonlinearity: "tanh" or "relu".
      **options: those of :func:`jax_lstm.lstm`, with the same meaning. ``reset_state`` is an array as h is.

    Returns:
      y, ``[*batch, T, directions * H]`` in the compute dtype, and the last h, ``[layers * directions, *batch, H]``,
      in the carry dtype.

    Raises:
      ValueError, TypeError: as :func:`jax_lstm.lstm`.
    """
    cell = _cell(nonlinearity)
    network = read_network(params, "rnn")
    options["reset_state"] = _as_state("reset_state", options.get("reset_state"))
    ran = run_stack(cell, network, params, x, _as_state("h", h), Options(**options))
    return ran.y, ran.last.h


def rnn_cell(
    params: Params,
    h: Any,
    x: Any,
    *,
    nonlinearity: Nonlinearity = "tanh",
    carry_dtype: Any = None,
    precision: Any = None,
) -> jax.Array:
    """One step of one layer: torch.nn.RNNCell's function, on its weights.

    ``params`` as for :func:`jax_lstm.lstm_cell` with H rows, ``h [*batch, H]`` or None for zeros, ``x [*batch, D]``.
    Returns the next h, in ``carry_dtype`` or the dtype that :func:`jax_lstm.lstm_cell` would return. Raises as
    :func:`jax_lstm.lstm_cell`.
    """
    cell = _cell(nonlinearity)
    network = read_cell(params, "rnn")
    check_step_input(x, network)
    params, x = vary_alike((dict(params), x))
    h = zeros_for(params, x, network.hidden_size) if h is None else checked_state("h", h, x, network.hidden_size)
    carry = next_dtype(carry_dtype, params, x, h)
    h, _ = cell.advance(cell.activate((gate_sums(params, x, h, precision),)), None)
    return h.astype(carry)


def _as_state(name, h):
    if isinstance(h, LSTMState):
        raise TypeError(f"{name} of an RNN must be an array, [layers * directions, *batch, H]; got an LSTMState.")
    return None if h is None else LSTMState(h, None)


def _cell(nonlinearity):
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}.")
    return NONLINEARITIES[nonlinearity]
