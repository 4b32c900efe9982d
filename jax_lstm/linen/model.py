"""Embedding -> LSTM -> fully connected layer as linen modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.module_constructor import SizesByPosition
from jax_lstm._src.state import LSTMState
from jax_lstm.linen.layers import Embedding, Linear
from jax_lstm.linen.lstm import LSTM

_SHARED_WITH_LSTM = (
    "hidden_size",
    "num_layers",
    "dropout",
    "bidirectional",
    "dtype",
    "param_dtype",
    "precision",
    "deterministic",
)


class SequenceModel(SizesByPosition, nn.Module):
    """Embedding -> LSTM -> fully connected layer, with the parameters of torch_ref.SequenceModel.

    The parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias``, as nested dicts. With
    their names joined by ".", they are the state dict of the torch model. The constructor takes the four sizes by
    position, and every other option by name.

    Attributes:
      vocab_size: the number of tokens.
      embedding_size: the width of the embedding, D of the LSTM.
      hidden_size: H, the number of hidden units.
      output_size: the width of the logits.
      num_layers: the layers of the LSTM, 1 by default.
      dropout: as for `jax_lstm.linen.LSTM`.
      bidirectional: whether the LSTM has a reverse direction.
      dtype: dtype of the computation, as for `jax_lstm.linen.LSTM`.
      param_dtype: dtype of the parameters, float32 by default.
      precision: of every product, as for `jax_lstm.lstm`.
      deterministic: whether there is no dropout, as for `jax_lstm.linen.LSTM`.
      return_state: if False, calls return only the logits. The default is True.
      lstm_options: further options of `jax_lstm.linen.LSTM`, by name.

    Raises:
      TypeError: an option is given by position, or ``lstm_options`` has an option that the model gives to the LSTM
        itself.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> model = jax_lstm.linen.SequenceModel(100, 8, 16, 5, num_layers=2)
      >>> tokens = jnp.zeros((4, 10), int)
      >>> variables = model.init(jax.random.key(0), tokens)
      >>> logits, state = model.apply(variables, tokens)
      >>> logits.shape
      (4, 10, 5)
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    output_size: int
    _: KW_ONLY
    num_layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: Precision = None
    deterministic: bool | None = None
    return_state: bool = True
    lstm_options: Mapping[str, Any] | None = None

    def setup(self) -> None:
        """Make the three layers. Flax calls it."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding = Embedding(self.vocab_size, self.embedding_size, **dtypes)
        self.lstm = LSTM(**self._lstm_options())
        self.fc = Linear(self.output_size, precision=self.precision, **dtypes)

    def __call__(
        self,
        tokens: ArrayLike,
        state: LSTMState | None = None,
        lengths: Listed | None = None,
        reset: Listed | None = None,
        deterministic: bool | None = None,
        mask: Listed | None = None,
        reset_state: LSTMState | None = None,
    ) -> tuple[Array, LSTMState]:
        """Run the model.

        Args:
          tokens: int ``[*batch, T]``.
          state: the initial `jax_lstm.LSTMState`, as for `jax_lstm.linen.LSTM`; None means zeros.
          lengths: int ``[*batch]``, as for `jax_lstm.lstm`.
          reset: bool, shaped as tokens, as for `jax_lstm.lstm`.
          deterministic: False turns dropout on, as for `jax_lstm.linen.LSTM`.
          mask: bool, shaped as tokens, as for `jax_lstm.lstm`.
          reset_state: the `jax_lstm.LSTMState` that a reset goes back to, as for `jax_lstm.lstm`.

        Returns:
          Logits ``[*batch, T, output_size]`` and the last `jax_lstm.LSTMState`; only logits if ``return_state`` is
          False.

        Raises:
          ValueError: as a call of `jax_lstm.linen.LSTM`, or of `jax_lstm.linen.Embedding`.
          TypeError: as a call of `jax_lstm.linen.LSTM`. Also if tokens are not integers.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> model = jax_lstm.linen.SequenceModel(100, 8, 16, 5, return_state=False)
          >>> tokens = jnp.zeros((4, 10), int)
          >>> variables = model.init(jax.random.key(0), tokens)
          >>> model.apply(variables, tokens, lengths=jnp.array([10, 7, 3, 0])).shape
          (4, 10, 5)
        """
        y, last = self.lstm(self.embedding(tokens), state, lengths, reset, deterministic, mask, reset_state)
        return (self.fc(y), last) if self.return_state else self.fc(y)  # type: ignore[return-value]

    @nn.nowrap
    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> LSTMState:
        """Return the state of zeros that a call without a state starts from.

        Args:
          batch_shape: the shape of tokens without T, as for `jax_lstm.zero_state`.
          dtype: as for `jax_lstm.linen.LSTM.zero_state`.

        Returns:
          A `jax_lstm.LSTMState` with h ``[R, *batch_shape, P]`` and c ``[R, *batch_shape, H]``.

        Raises:
          ValueError: as `jax_lstm.zero_state`.
          TypeError: as `jax_lstm.zero_state`.

        Examples:
          >>> import jax_lstm
          >>> jax_lstm.linen.SequenceModel(100, 8, 16, 5).zero_state(4).h.shape
          (1, 4, 16)
        """
        lstm = self.lstm if self.scope is not None else LSTM(**self._lstm_options(), parent=None)
        return lstm.zero_state(batch_shape, dtype)

    @nn.nowrap
    def _lstm_options(self) -> dict[str, Any]:
        shared = {name: getattr(self, name) for name in _SHARED_WITH_LSTM}
        return dict(**shared, return_state=True, **(self.lstm_options or {}))  # TypeError if an option is given twice

    def step(self, tokens: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one token per row. It has no dropout. Call it by ``apply(..., method="step")``.

        Args:
          tokens: int ``[*batch]``.
          state: the `jax_lstm.LSTMState` that the step before returned; None means zeros.

        Returns:
          Logits ``[*batch, output_size]`` and the next `jax_lstm.LSTMState`.

        Raises:
          ValueError: as `jax_lstm.lstm_step`, or as a call of `jax_lstm.linen.Embedding`.
          TypeError: as `jax_lstm.lstm_step`. Also if tokens are not integers.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> model = jax_lstm.linen.SequenceModel(100, 8, 16, 5)
          >>> variables = model.init(jax.random.key(0), jnp.zeros((4, 10), int))
          >>> logits, state = model.apply(variables, jnp.array([7, 3, 0, 9]), method="step")
          >>> logits.shape
          (4, 5)
        """
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state
