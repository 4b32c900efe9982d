"""Embedding -> LSTM -> fully connected layer as nnx modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.module_constructor import sizes_by_position
from jax_lstm._src.module_layers import dense, embed, uniform_init
from jax_lstm._src.state import LSTMState
from jax_lstm.nnx.lstm import LSTM
from jax_lstm.nnx.signature import Signed


class SequenceModel(nnx.Module, metaclass=Signed):
    """Embedding -> LSTM -> fully connected layer, with the parameters of torch_ref.SequenceModel.

    The parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias``. ``lstm_options`` go
    to :class:`LSTM`. ``model.train()`` turns dropout on, and ``model.eval()`` turns it off.
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
          state, lengths, mask, reset, reset_state, dropout_key, deterministic: as for :meth:`LSTM.__call__`.

        Returns:
          Logits ``[*batch, T, output_size]`` and the last state of the LSTM; only logits if ``return_state`` is False.

        Raises:
          ValueError, TypeError: as :meth:`LSTM.__call__`; TypeError if tokens are not integers.
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
        return (self.fc(y), last) if self.return_state else self.fc(y)

    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> LSTMState:
        """Return the state of zeros that a call without a state starts from, as :meth:`LSTM.zero_state`."""
        return self.lstm.zero_state(batch_shape, dtype)

    def step(self, tokens: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one token per row, int ``[*batch]``; return logits ``[*batch, output_size]`` and the next state."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(nnx.Module, metaclass=Signed):
    """An embedding as torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1).

    Args:
      vocab_size: the number of tokens.
      size: the width of a row.
      dtype: what the result has; that of the weights if None.
      param_dtype: what the weights have.
      rngs: draws the weights from its stream "params".
    """

    @sizes_by_position("")
    def __init__(
        self,
        vocab_size: int,
        size: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (vocab_size, size), param_dtype))

    def __call__(self, tokens: ArrayLike) -> Array:
        """Return the rows of the weight.

        Args:
          tokens: int ``[*batch, T]``.

        Returns:
          ``[*batch, T, size]``.

        Raises:
          TypeError: tokens are not integers.
          ValueError: a token lies outside of the vocabulary. Under jit, which knows no values, it is not checked.
        """
        return embed(cast_floating(self.weight[...], self.dtype), tokens)


class Linear(nnx.Module, metaclass=Signed):
    """A dense layer as torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in).

    Args:
      fan_in: the width of the input.
      size: the width of the result.
      dtype: what is computed in; that of input and weights if None.
      param_dtype: what weights and bias have.
      precision: of the product, as `jax.lax.dot` takes it.
      rngs: draws weights and bias from its stream "params".
    """

    @sizes_by_position("")
    def __init__(
        self,
        fan_in: int,
        size: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: Precision = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype, self.precision = dtype, precision
        init = uniform_init(fan_in)
        self.weight = nnx.Param(init(rngs.params(), (size, fan_in), param_dtype))
        self.bias = nnx.Param(init(rngs.params(), (size,), param_dtype))

    def __call__(self, x: ArrayLike) -> Array:
        """Return x times the weight plus the bias.

        Args:
          x: ``[..., fan_in]``.

        Returns:
          ``[..., size]``.
        """
        inputs, weight, bias = cast_floating((x, self.weight[...], self.bias[...]), self.dtype)
        return dense(weight, bias, inputs, self.precision)
