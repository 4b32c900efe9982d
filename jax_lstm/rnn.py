"""The Elman RNN as pure functions on a torch.nn.RNN state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jax_lstm.elman import NONLINEARITIES, Nonlinearity
from jax_lstm.lstm import check_step, sum_step
from jax_lstm.network import read_cell, read_network
from jax_lstm.options import OptionArguments, Options, show_options
from jax_lstm.stack import run_stack
from jax_lstm.state import LSTMState

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
      **options: those of :func:`jax_lstm.lstm`, with the same meaning.

    Returns:
      y, ``[*batch, T, directions * H]`` in the compute dtype, and the last h, ``[layers * directions, *batch, H]``,
      in the carry dtype.

    Raises:
      ValueError, TypeError: as :func:`jax_lstm.lstm`.
    """
    state = None if h is None else LSTMState(h, None)
    cell = _cell(nonlinearity)
    ran = run_stack(cell, read_network(params, "rnn"), params, x, state, Options(**options))
    return ran.y, ran.last.h


def rnn_cell(
    params: Params, h: Any, x: Any, *, nonlinearity: Nonlinearity = "tanh", precision: Any = None
) -> jax.Array:
    """One step of one layer: torch.nn.RNNCell's function, on its weights.

    ``params`` as for :func:`jax_lstm.lstm_cell` with H rows, ``h [*batch, H]``, ``x [*batch, D]``. Returns the next h,
    in h's dtype and never narrower than float32. Raises as :func:`jax_lstm.lstm_cell`.
    """
    cell = _cell(nonlinearity)
    network = read_cell(params, "rnn")
    check_step(x, network, {"h": (h, network.hidden_size)})
    h_next, _ = cell.advance(cell.activate((sum_step(params, x, h, precision),)), None)
    return h_next.astype(jnp.promote_types(h.dtype, jnp.float32))


def _cell(nonlinearity):
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}.")
    return NONLINEARITIES[nonlinearity]
