"""Embedding -> LSTM -> fully connected layer as linen modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.module_constructor import SizesByPosition
from jax_lstm._src.module_layers import dense, embed, uniform_init
from jax_lstm._src.state import LSTMState
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
    their names joined by ".", they are the state dict of the torch model. ``lstm_options`` go to :class:`LSTM`.
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
        """Make the three layers."""
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
          state, lengths, reset, deterministic, mask, reset_state: as for :meth:`LSTM.__call__`.

        Returns:
          Logits ``[*batch, T, output_size]`` and the last state of the LSTM; only logits if ``return_state`` is False.

        Raises:
          ValueError, TypeError: as :meth:`LSTM.__call__`; TypeError if tokens are not integers.
        """
        y, last = self.lstm(self.embedding(tokens), state, lengths, reset, deterministic, mask, reset_state)
        return (self.fc(y), last) if self.return_state else self.fc(y)  # type: ignore[return-value]

    @nn.nowrap
    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> LSTMState:
        """Return the state of zeros that a call without a state starts from, as :meth:`LSTM.zero_state`."""
        lstm = self.lstm if self.scope is not None else LSTM(**self._lstm_options(), parent=None)
        return lstm.zero_state(batch_shape, dtype)

    @nn.nowrap
    def _lstm_options(self) -> dict[str, Any]:
        shared = {name: getattr(self, name) for name in _SHARED_WITH_LSTM}
        return dict(**shared, return_state=True, **(self.lstm_options or {}))  # TypeError if an option is given twice

    def step(self, tokens: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one token per row, int ``[*batch]``; return logits ``[*batch, output_size]`` and the next state."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(SizesByPosition, nn.Module):
    """An embedding as torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1).

    Attributes:
      vocab_size: the number of tokens.
      size: the width of a row.
      dtype: what the result has; that of the weights if None.
      param_dtype: what the weights have.
    """

    vocab_size: int
    size: int
    _: KW_ONLY
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
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
        weight = self.param("weight", jax.nn.initializers.normal(1.0), (self.vocab_size, self.size), self.param_dtype)
        return embed(cast_floating(weight, self.dtype), tokens)


class Linear(SizesByPosition, nn.Module):
    """A dense layer as torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in).

    Attributes:
      size: the width of the result. The width of the input is read from x.
      dtype: what is computed in; that of input and weights if None.
      param_dtype: what weights and bias have.
      precision: of the product, as `jax.lax.dot` takes it.
    """

    _in_torch = "torch.nn.Linear({0}, {1}) is linen.Linear({1}): the input's size is read from x."

    size: int
    _: KW_ONLY
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: Precision = None

    @nn.compact
    def __call__(self, x: ArrayLike) -> Array:
        """Return x times the weight plus the bias.

        Args:
          x: ``[..., in]``.

        Returns:
          ``[..., size]``.
        """
        init = uniform_init(x.shape[-1])
        weight = self.param("weight", init, (self.size, x.shape[-1]), self.param_dtype)
        bias = self.param("bias", init, (self.size,), self.param_dtype)
        inputs, weight, bias = cast_floating((x, weight, bias), self.dtype)
        return dense(weight, bias, inputs, self.precision)
