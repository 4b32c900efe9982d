"""Keras 3 on its JAX backend: keras.layers.LSTM, and Bidirectional of it, one after another for layers.

Lengths are a mask. Outputs in the padding are set to zero here, and each row's last state is Keras's own.
"""

from __future__ import annotations

import os
from functools import lru_cache

import jax
import jax.numpy as jnp

from crosscheck.libraries.implementation import NotSupported
from crosscheck.libraries.layers import NO_PROJECTION, NO_RNN, Layer, layer_runner, zero_padding
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert

os.environ.setdefault("KERAS_BACKEND", "jax")  # read once, when keras is first imported

import keras

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "time-major": "its LSTM is batch first alone",
    "no batch": "its LSTM wants a batch axis",
}


def runner(case: Case):
    if keras.backend.backend() != "jax":
        raise NotSupported(f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=jax")
    return layer_runner(case, LACKING, layer)


def layer(case: RecurrentCase) -> Layer:
    def run(params, x, h0, c0):
        module = built(case.hidden_size, case.bias, case.bidirectional, x.shape, x.dtype.name)
        fixed = [variable.value for variable in module.non_trainable_variables]
        mask = None
        if case.lengths is not None:
            mask = jnp.arange(case.steps) < jnp.asarray(case.lengths)[:, None]
        states = [a for pair in zip(h0, c0, strict=True) for a in pair]
        found, _ = module.stateless_call(convert.to_keras(params), fixed, x, initial_state=states, mask=mask)
        y, *last = found
        return zero_padding(y, case), jnp.stack(last[::2]), jnp.stack(last[1::2])

    return run


@lru_cache(maxsize=64)
def built(hidden: int, bias: bool, bidirectional: bool, shape: tuple[int, ...], dtype: str) -> keras.layers.Layer:
    """A layer with variables, made outside of any trace."""
    with jax.ensure_compile_time_eval():
        options = {"return_sequences": True, "return_state": True, "use_bias": bias, "dtype": dtype}
        layer = keras.layers.LSTM(hidden, **options)
        layer = keras.layers.Bidirectional(layer, dtype=dtype) if bidirectional else layer
        layer.build(shape)
    return layer
