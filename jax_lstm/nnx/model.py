"""Embedding -> LSTM -> fully connected layer as nnx modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.module_constructor import sizes_by_position
from jax_lstm._src.state import LSTMState
from jax_lstm.nnx.layers import Embedding, Linear
from jax_lstm.nnx.lstm import LSTM
from jax_lstm.nnx.signature import Signed


class SequenceModel(nnx.Module, metaclass=Signed):
    """Embedding -> LSTM -> fully connected layer, with the parameters of torch_ref.SequenceModel.

    The parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias``. ``model.train()``
    turns dropout on, and ``model.eval()`` turns it off.

    Args:
      vocab_size: the number of tokens.
      embedding_size: the width of the embedding, D of the LSTM.
      hidden_size: H, the number of hidden units.
      output_size: the width of the logits.
      num_layers: the layers of the LSTM.
      dropout: as for `jax_lstm.nnx.LSTM`.
      bidirectional: whether the LSTM has a reverse direction.
      dtype: dtype of the computation, as for `jax_lstm.nnx.LSTM`.
      param_dtype: dtype of the parameters.
      precision: of every product, as for `jax_lstm.lstm`.
      deterministic: whether there is no dropout, as for `jax_lstm.nnx.LSTM`.
      return_state: if False, calls return only the logits.
      lstm_options: further options of `jax_lstm.nnx.LSTM`, by name.
      rngs: the keys to draw the parameters with. They are not stored.

    Raises:
      ValueError: an option has a wrong value.
      TypeError: an option is given by position, or ``lstm_options`` has an option that the model gives to the LSTM
        itself.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> model = jax_lstm.nnx.SequenceModel(100, 8, 16, 5, rngs=nnx.Rngs(0))
      >>> logits, state = model(jnp.zeros((4, 10), int))
      >>> logits.shape, model.fc.weight.shape
      ((4, 10, 5), (5, 16))
    """

    @sizes_by_position("")
    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        output_size: int,
        *,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: Precision = None,
        deterministic: bool = False,
        return_state: bool = True,
        lstm_options: Mapping[str, Any] | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.return_state = return_state
        shared: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.embedding = Embedding(vocab_size, embedding_size, **shared)
        self.lstm = LSTM(
            embedding_size,
            hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            precision=precision,
            deterministic=deterministic,
            return_state=True,
            **shared,
            **(lstm_options or {}),
        )
        width = self.lstm.network.directions * self.lstm.network.output_size
        self.fc = Linear(width, output_size, precision=precision, **shared)

    def __call__(
        self,
        tokens: ArrayLike,
        state: LSTMState | None = None,
        *,
        lengths: Listed | None = None,
        mask: Listed | None = None,
        reset: Listed | None = None,
        reset_state: LSTMState | None = None,
        dropout_key: ArrayLike | None = None,
        deterministic: bool | None = None,
    ) -> tuple[Array, LSTMState]:
        """Run the model.

        Args:
          tokens: int ``[*batch, T]``.
          state: the initial `jax_lstm.LSTMState`, as for `jax_lstm.nnx.LSTM`; None means zeros.
          lengths: int ``[*batch]``, as for `jax_lstm.lstm`.
          mask: bool, shaped as tokens, as for `jax_lstm.lstm`.
          reset: bool, shaped as tokens, as for `jax_lstm.lstm`.
          reset_state: the `jax_lstm.LSTMState` that a reset goes back to, as for `jax_lstm.lstm`.
          dropout_key: a jax.random key, as for a call of `jax_lstm.nnx.LSTM`.
          deterministic: whether there is no dropout in this call, as for a call of `jax_lstm.nnx.LSTM`.

        Returns:
          Logits ``[*batch, T, output_size]`` and the last `jax_lstm.LSTMState`; only logits if ``return_state`` is
          False.

        Raises:
          ValueError: as a call of `jax_lstm.nnx.LSTM`, or of `jax_lstm.nnx.Embedding`.
          TypeError: as a call of `jax_lstm.nnx.LSTM`. Also if tokens are not integers.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> model = jax_lstm.nnx.SequenceModel(100, 8, 16, 5, rngs=nnx.Rngs(0))
          >>> tokens, lengths = jnp.zeros((4, 10), int), jnp.array([10, 7, 3, 0])
          >>> logits, state = model(tokens, lengths=lengths)
          >>> logits.shape, state.h.shape
          ((4, 10, 5), (1, 4, 16))
        """
        y, last = self.lstm(
            self.embedding(tokens),
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
            dropout_key=dropout_key,
            deterministic=deterministic,
        )
        return (self.fc(y), last) if self.return_state else self.fc(y)  # type: ignore[return-value]

    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> LSTMState:
        """Return the state of zeros that a call without a state starts from.

        Args:
          batch_shape: the shape of tokens without T, as for `jax_lstm.zero_state`.
          dtype: as for `jax_lstm.nnx.LSTM.zero_state`.

        Returns:
          A `jax_lstm.LSTMState` with h ``[R, *batch_shape, P]`` and c ``[R, *batch_shape, H]``.

        Raises:
          ValueError: as `jax_lstm.zero_state`.
          TypeError: as `jax_lstm.zero_state`.

        Examples:
          >>> from flax import nnx
          >>> import jax_lstm
          >>> jax_lstm.nnx.SequenceModel(100, 8, 16, 5, rngs=nnx.Rngs(0)).zero_state(4).h.shape
          (1, 4, 16)
        """
        return self.lstm.zero_state(batch_shape, dtype)

    def step(self, tokens: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one token per row. It has no dropout.

        Args:
          tokens: int ``[*batch]``.
          state: the `jax_lstm.LSTMState` that the step before returned; None means zeros.

        Returns:
          Logits ``[*batch, output_size]`` and the next `jax_lstm.LSTMState`.

        Raises:
          ValueError: as `jax_lstm.lstm_step`, or as a call of `jax_lstm.nnx.Embedding`.
          TypeError: as `jax_lstm.lstm_step`. Also if tokens are not integers.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> model = jax_lstm.nnx.SequenceModel(100, 8, 16, 5, rngs=nnx.Rngs(0))
          >>> logits, state = model.step(jnp.array([7, 3, 0, 9]))
          >>> logits.shape
          (4, 5)
        """
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state
