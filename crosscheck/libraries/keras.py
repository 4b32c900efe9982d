"""Keras 3 on its JAX backend: keras.layers.LSTM, and Bidirectional of it, layer after layer.

Lengths are a mask. Outputs in the padding are set to zero here, and each row's last state is Keras's own.
"""

from __future__ import annotations

import os
from functools import lru_cache

import jax
import jax.numpy as jnp

from crosscheck.libraries.adapter import NO_PROJECTION, NO_RNN, Adapter, Outputs, State, Weights, zero_padding
from crosscheck.libraries.implementation import NotSupported
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert

os.environ.setdefault("KERAS_BACKEND", "jax")  # read once, when keras is first imported

import keras

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "time-major": "its LSTM takes the batch first",
    "no batch": "its LSTM needs a batch axis",
}


def adapter(case: RecurrentCase) -> Adapter:
    """Return the network.

    Raises:
      NotSupported: Keras runs on another backend.
    """
    if keras.backend.backend() != "jax":
        raise NotSupported(f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=jax")
    directions = 2 if case.bidirectional else 1
    arrays = directions * (3 if case.bias else 2)  # per layer

    def run(weights: Weights, x: jax.Array, h0: State, c0: State) -> Outputs:
        mask = None
        if case.lengths is not None:
            mask = jnp.arange(case.steps) < jnp.asarray(case.lengths)[:, None]
        last: list[jax.Array] = []
        for n in range(case.num_layers):
            layer = _built_layer(case.hidden_size, case.bias, case.bidirectional, x.shape, x.dtype.name)
            fixed = [variable.value for variable in layer.non_trainable_variables]
            start = None
            if h0 is not None and c0 is not None:
                rows = range(n * directions, (n + 1) * directions)
                start = [a for row in rows for a in (h0[row], c0[row])]
            own = weights[n * arrays : (n + 1) * arrays]
            (x, *states), _ = layer.stateless_call(own, fixed, x, initial_state=start, mask=mask)
            last += states
        return zero_padding(x, case), jnp.stack(last[::2]), jnp.stack(last[1::2])

    return Adapter(lambda params: convert.to_keras(params), run)


@lru_cache(maxsize=64)
def _built_layer(
    hidden: int, bias: bool, bidirectional: bool, shape: tuple[int, ...], dtype: str
) -> keras.layers.Layer:
    """Return a layer whose variables are made outside of any trace."""
    with jax.ensure_compile_time_eval():
        options = {"return_sequences": True, "return_state": True, "use_bias": bias, "dtype": dtype}
        layer = keras.layers.LSTM(hidden, **options)
        layer = keras.layers.Bidirectional(layer, dtype=dtype) if bidirectional else layer
        layer.build(shape)
    return layer
