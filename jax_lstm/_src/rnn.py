"""The Elman RNN as pure functions on a torch.nn.RNN state dict."""

from __future__ import annotations

from typing import Unpack

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Params, Precision
from jax_lstm._src.elman import Nonlinearity, cell_of
from jax_lstm._src.network import read_cell, read_network
from jax_lstm._src.options import OptionArguments, Options, show_options
from jax_lstm._src.single_step import run_cell
from jax_lstm._src.stack import run_stack
from jax_lstm._src.state import LSTMState


@show_options
def rnn(
    params: Params,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    nonlinearity: Nonlinearity = "tanh",
    **options: Unpack[OptionArguments],
) -> tuple[Array, Array]:
    """Run a multi-layer Elman RNN over a sequence, as torch.nn.RNN does, on its weights.

    Args:
      params: a torch.nn.RNN state dict as arrays. Layers, directions, sizes and biases are read from it.
      x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
      h: the initial hidden state ``[R, *batch, H]``; None means zeros.
      nonlinearity: "tanh" or "relu".
      **options: the options of `jax_lstm.lstm`, with the same meaning. ``reset_state`` is an array shaped as h.

    Returns:
      y ``[*batch, T, directions * H]`` (or time-major) in the compute dtype, and the last h ``[R, *batch, H]`` in the
      carry dtype.

    Raises:
      ValueError: as `jax_lstm.lstm`.
      TypeError: as `jax_lstm.lstm`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_rnn(jax.random.key(0), 8, 16)
      >>> y, h = jax_lstm.rnn(params, jnp.ones((4, 10, 8)), nonlinearity="relu")
      >>> y.shape, h.shape
      ((4, 10, 16), (1, 4, 16))
    """
    cell = cell_of(nonlinearity)
    network = read_network(params, "rnn")
    options["reset_state"] = _as_state("reset_state", options.get("reset_state"))
    result = run_stack(cell, network, params, x, _as_state("h", h), Options(**options))
    return result.y, result.last.h


def rnn_cell(
    params: Params,
    h: ArrayLike | None,
    x: ArrayLike,
    *,
    nonlinearity: Nonlinearity = "tanh",
    carry_dtype: DTypeLike | None = None,
    precision: Precision = None,
) -> Array:
    """Run one step of one layer, as torch.nn.RNNCell does, on its weights.

    Args:
      params: arrays by torch.nn.RNNCell's names: ``weight_ih [H, D]``, ``weight_hh [H, H]`` and optionally ``bias_ih``,
        ``bias_hh [H]``.
      h: ``[*batch, H]``; None means zeros. A batch axis may have one element, which stands for the whole batch.
      x: ``[*batch, D]``.
      nonlinearity: "tanh" or "relu".
      carry_dtype: dtype of the returned h, as for `jax_lstm.lstm_cell`.
      precision: as for `jax_lstm.lstm`.

    Returns:
      The next h ``[*batch, H]``.

    Raises:
      ValueError: as `jax_lstm.lstm`.
      TypeError: as `jax_lstm.lstm`.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_rnn(jax.random.key(0), 8, 16)
      >>> cell = {name.removesuffix("_l0"): a for name, a in params.items()}
      >>> jax_lstm.rnn_cell(cell, None, jnp.ones((4, 8))).shape
      (4, 16)
    """
    cell = cell_of(nonlinearity)
    state = None if h is None else LSTMState(h, None)
    return run_cell(cell, read_cell(params, "rnn"), params, state, x, carry_dtype, precision).h


def _as_state(name: str, h: LSTMState | ArrayLike | None) -> LSTMState | None:
    if isinstance(h, LSTMState):
        raise TypeError(f"{name} of an RNN must be an array, [layers * directions, *batch, H]; got an LSTMState.")
    return None if h is None else LSTMState(h, None)
