"""jax.experimental.rnn: cuDNN's LSTM from JAX, for the benchmark. Batch first, float32; the weights are one vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from crosscheck.libraries.adapter import Adapter, Outputs, State
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert


def adapter(case: RecurrentCase, precision: jax.lax.PrecisionLike = None) -> Adapter:
    """Return the network. ``precision`` is the precision of its products: HIGHEST excludes TF32."""

    def run(weights: jax.Array, x: jax.Array, h0: State, c0: State) -> Outputs:
        zero = jnp.zeros((case.rows, x.shape[0], case.hidden_size), x.dtype)
        states = (zero if h0 is None else h0, zero if c0 is None else c0)
        lengths = jnp.full(x.shape[:1], case.steps, jnp.int32)
        sizes = (case.input_size, case.hidden_size, case.num_layers)
        return rnn.lstm(x, *states, weights, lengths, *sizes, 0.0, case.bidirectional, precision=precision)

    return Adapter(lambda params: convert.to_cudnn(params), run)
