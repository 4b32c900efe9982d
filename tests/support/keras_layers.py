"""Keras on its JAX backend, for the tests of its converter: layers with random weights, run from given states."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from tests.support.requirements import need

os.environ["KERAS_BACKEND"] = "jax"  # keras reads it once, when it is first imported
keras = need("keras")

# numpy deprecates the way in which Keras's variables become numpy arrays.
QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


# Keras's own tanh returns float32 for float64, so its layers do not compute in float64. These two functions do. They
# are registered, because Bidirectional creates its layers again from their configurations.
@keras.saving.register_keras_serializable("exact", "tanh")
def tanh(x):
    return jnp.tanh(x)


@keras.saving.register_keras_serializable("exact", "sigmoid")
def sigmoid(x):
    return jax.nn.sigmoid(x)


EXACT = {"activation": tanh, "recurrent_activation": sigmoid}


def drawn(layer, seed=0):
    """Return ``layer`` with weights that are all different and not zero."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=a.shape, scale=0.5).astype(a.dtype) for a in layer.get_weights()])
    return layer


def built(layer, *shape, seed=0):
    layer.build(shape)
    return drawn(layer, seed)


def run(layers, x, h, c):
    """Run a stack of layers from states h, c [R, B, H] as jax_lstm.lstm does: return y and the last states."""

    @jax.jit
    def forward(x, h, c):
        rows, ends = list(zip(h, c, strict=True)), []
        for layer in layers:
            cells = getattr(getattr(layer, "cell", None), "cells", None)
            if cells:
                x, *states = layer(x, initial_state=[list(rows.pop(0)) for _ in cells])
            elif isinstance(layer, keras.layers.Bidirectional):
                x, *states = layer(x, initial_state=[*rows.pop(0), *rows.pop(0)])
            else:
                x, *states = layer(x, initial_state=list(rows.pop(0)))
            ends += jax.tree.leaves(states)
        return x, jnp.stack(ends[::2]), jnp.stack(ends[1::2])

    return forward(x, h, c)


@jax.jit
def ours(params, x, h, c):
    y, state = jax_lstm.lstm(params, x, jax_lstm.LSTMState(h=h, c=c))
    return y, state.h, state.c
