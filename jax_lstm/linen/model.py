"""Embedding -> LSTM -> fully connected layer as linen modules."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm._src.layers import SizesByPosition, cast, embed, linear, uniform_init
from jax_lstm._src.state import LSTMState
from jax_lstm.linen.lstm import LSTM


class SequenceModel(SizesByPosition, nn.Module):
    """Embedding -> LSTM -> fully connected layer: torch_ref.SequenceModel, parameter for parameter.

    The parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias`` (nested dicts; joined
    by "." they are the torch model's state dict). ``lstm_options`` go to :class:`LSTM`.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    output_size: int
    _: KW_ONLY
    num_layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    deterministic: bool | None = None
    return_state: bool = True
    lstm_options: Any = None

    def setup(self):
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding = Embedding(self.vocab_size, self.embedding_size, **kinds)
        self.lstm = LSTM(**self._lstm_options())
        self.fc = Linear(self.output_size, precision=self.precision, **kinds)

    def __call__(
        self,
        tokens: Any,
        state: LSTMState | None = None,
        lengths: Any = None,
        reset: Any = None,
        deterministic: bool | None = None,
        mask: Any = None,
        reset_state: LSTMState | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """tokens int ``[*batch, T]`` -> logits ``[*batch, T, output_size]`` and the LSTM's last state.

        The other arguments are those of :meth:`LSTM.__call__`. With dropout, ``deterministic`` is given here or to the
        module. Raises TypeError if tokens are no integers.
        """
        y, last = self.lstm(self.embedding(tokens), state, lengths, reset, deterministic, mask, reset_state)
        return (self.fc(y), last) if self.return_state else self.fc(y)  # type: ignore[return-value]

    @nn.nowrap
    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: Any = None) -> LSTMState:
        """Return the state of zeros that a call without one starts from, as :meth:`LSTM.zero_state`."""
        lstm = self.lstm if self.scope is not None else LSTM(**self._lstm_options(), parent=None)
        return lstm.zero_state(batch_shape, dtype)

    @nn.nowrap
    def _lstm_options(self) -> dict[str, Any]:
        return dict(
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.dropout,
            bidirectional=self.bidirectional,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            deterministic=self.deterministic,
            return_state=True,
            **(self.lstm_options or {}),
        )

    def step(self, tokens: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """One token per row, int ``[*batch]`` -> logits ``[*batch, output_size]`` and state, by :meth:`LSTM.step`."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(SizesByPosition, nn.Module):
    """torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1)."""

    vocab_size: int
    size: int
    _: KW_ONLY
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Any) -> jax.Array:
        weight = self.param("weight", jax.nn.initializers.normal(1.0), (self.vocab_size, self.size), self.param_dtype)
        return embed(cast(self.dtype, weight), tokens)


class Linear(SizesByPosition, nn.Module):
    """torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in)."""

    _in_torch = "torch.nn.Linear({0}, {1}) is linen.Linear({1}): the input's size is read from x."

    size: int
    _: KW_ONLY
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        init = uniform_init(x.shape[-1])
        weight = self.param("weight", init, (self.size, x.shape[-1]), self.param_dtype)
        bias = self.param("bias", init, (self.size,), self.param_dtype)
        x, weight, bias = cast(self.dtype, (x, weight, bias))
        return linear(weight, bias, x, self.precision)
