"""The residuals that a user's loop keeps for its gradient: values that vary by step, and no copy of the weights."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx
from tests.support.arrays import drawn_weights

T, B, D, H = 7, 2, 12, 16
LSTM = drawn_weights(D, H, dtype=np.float32)
LSTM_CELL, RNN_CELL = (
    {name.removesuffix("_l0"): a for name, a in params.items()}
    for params in (LSTM, drawn_weights(D, H, kind="rnn", dtype=np.float32))
)


def scan(step):
    """Return the states of a loop over the steps of x `[T, B, ...]`; ``step(params, state, x_t)`` gives a state."""

    def run(params, x, first):
        def body(state, x_t):
            after = step(params, state, x_t)
            return after, after

        return jax.lax.scan(body, first, x)[1]

    return run


def flax_rnn(params, x, _):
    return nn.RNN(linen.LSTMCell(H)).apply({"params": {"cell": params}}, x.swapaxes(0, 1))


def flax_nnx_rnn(params, x, _):
    cell = nnx.LSTMCell(D, H, rngs=flax_nnx.Rngs(0))
    flax_nnx.update(cell, params)
    return flax_nnx.RNN(cell)(x.swapaxes(0, 1))


def linear(params, x, _):
    step = lambda carry, x_t: (carry, linen.Linear(H).apply({"params": params}, x_t))
    return jax.lax.scan(step, None, x)[1]


X = jnp.ones((T, B, D), jnp.float32)
CASES = {
    "lstm_cell": (scan(jax_lstm.lstm_cell), LSTM_CELL, X, jax_lstm.zero_state(LSTM_CELL, B)),
    "rnn_cell": (scan(jax_lstm.rnn_cell), RNN_CELL, X, jax_lstm.zero_state(RNN_CELL, B)),
    "lstm_step": (
        scan(lambda params, state, x: jax_lstm.lstm_step(params, x, state)[1]),
        LSTM,
        X,
        jax_lstm.zero_state(LSTM, B),
    ),
    "lstm, chunk by chunk": (
        scan(lambda params, state, x: jax_lstm.lstm(params, x, state)[1]),
        LSTM,
        X[:, :, None],
        jax_lstm.zero_state(LSTM, B),
    ),
    "flax.linen.RNN": (flax_rnn, LSTM_CELL, X, None),
    "flax.nnx.RNN": (flax_nnx_rnn, LSTM_CELL, X, None),
    "Linear": (linear, {"weight": jnp.ones((H, D), jnp.float32), "bias": jnp.ones(H, jnp.float32)}, X, None),
}


@pytest.mark.parametrize("name", CASES)
def test_no_weight_is_kept_per_step(name):
    run, params, x, first = CASES[name]
    residuals = jax.eval_shape(lambda *at: jax.tree.leaves(jax.vjp(run, *at)[1]), params, x, first)
    matrices = {shape for a in params.values() if a.ndim == 2 for shape in (a.shape, a.shape[::-1])}
    per_step = [a.shape for a in residuals if a.ndim > 2 and a.shape[0] == T]
    assert not [shape for shape in per_step if shape[-2:] in matrices], per_step
