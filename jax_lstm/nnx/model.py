"""Embedding -> LSTM -> fully connected layer as nnx modules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_lstm._src.layers import cast, embed, linear, sizes_by_position, uniform_init
from jax_lstm._src.state import LSTMState
from jax_lstm.nnx.lstm import LSTM
from jax_lstm.nnx.signature import Signed


class SequenceModel(nnx.Module, metaclass=Signed):
    """Embedding -> LSTM -> fully connected layer: torch_ref.SequenceModel, parameter for parameter.

    Its parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias``. ``lstm_options`` go
    to :class:`LSTM`. ``model.train()`` and ``model.eval()`` say whether there is dropout.
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
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        deterministic: bool = False,
        return_state: bool = True,
        lstm_options: dict[str, Any] | None = None,
        rngs: nnx.Rngs,
    ):
        self.return_state = return_state
        kinds = {"dtype": dtype, "param_dtype": param_dtype}
        self.embedding = Embedding(vocab_size, embedding_size, rngs=rngs, **kinds)
        self.lstm = LSTM(
            embedding_size,
            hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            precision=precision,
            deterministic=deterministic,
            return_state=True,
            rngs=rngs,
            **kinds,
            **(lstm_options or {}),
        )
        width = self.lstm.network.directions * self.lstm.network.output_size
        self.fc = Linear(width, output_size, precision=precision, rngs=rngs, **kinds)

    def __call__(
        self,
        tokens: Any,
        state: LSTMState | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        reset_state: LSTMState | None = None,
        dropout_key: Any = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """tokens int ``[*batch, T]`` -> logits ``[*batch, T, output_size]`` and the LSTM's last state.

        The other arguments are those of :meth:`LSTM.__call__`, among them the ``dropout_key`` that training needs.
        Raises TypeError if tokens are no integers.
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

    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: Any = None) -> LSTMState:
        """Return the state of zeros that a call without one starts from, as :meth:`LSTM.zero_state`."""
        return self.lstm.zero_state(batch_shape, dtype)

    def step(self, tokens: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """One token per row, int ``[*batch]`` -> logits ``[*batch, output_size]`` and state, by :meth:`LSTM.step`."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(nnx.Module, metaclass=Signed):
    """torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1)."""

    @sizes_by_position("")
    def __init__(
        self, vocab_size: int, size: int, *, dtype: Any = None, param_dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        self.dtype = dtype
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (vocab_size, size), param_dtype))

    def __call__(self, tokens: Any) -> jax.Array:
        return embed(cast(self.dtype, self.weight[...]), tokens)


class Linear(nnx.Module, metaclass=Signed):
    """torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in)."""

    @sizes_by_position("")
    def __init__(
        self,
        fan_in: int,
        size: int,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ):
        self.dtype, self.precision = dtype, precision
        init = uniform_init(fan_in)
        self.weight = nnx.Param(init(rngs.params(), (size, fan_in), param_dtype))
        self.bias = nnx.Param(init(rngs.params(), (size,), param_dtype))

    def __call__(self, x: Any) -> jax.Array:
        x, weight, bias = cast(self.dtype, (x, self.weight[...], self.bias[...]))
        return linear(weight, bias, x, self.precision)
