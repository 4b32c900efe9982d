"""Functions of this package at small sizes, to lower and compile for every platform."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx
from tests.support.arrays import drawn_like, drawn_weights, normal

B, T, D, H, V = 2, 8, 3, 4, 7
KEY = jax.random.key(0)
TOKENS = np.arange(B * T).reshape(B, T) % V
LENGTHS = np.array([5, 0])
DEEP = {"num_layers": 2, "bidirectional": True}


def arguments(dtype=np.float32, **network):
    return drawn_weights(D, H, dtype=dtype, **network), normal((B, T, D), dtype)


def functional(dtype=np.float32, *, network=None, **options):
    return lambda p, x: jax_lstm.lstm(p, x, **options), arguments(dtype, **(network or {}))


def linen_case(module, inputs):
    params = drawn_like(jax.eval_shape(module.init, KEY, inputs)["params"])
    return lambda p, x: module.apply({"params": p}, x), (params, inputs)


def nnx_case(make, inputs):
    graph, params = flax_nnx.split(flax_nnx.eval_shape(lambda: make(rngs=flax_nnx.Rngs(0))))
    return lambda p, x: flax_nnx.merge(graph, p)(x), (drawn_like(params), inputs)


X = arguments()[1]
CASES = {
    "default": functional(),
    "bidirectional, two layers": functional(network=DEEP),
    "projection": functional(network={"proj_size": 2}),
    "lengths": functional(network={"bidirectional": True}, lengths=LENGTHS),
    "reset, truncation": functional(reset=np.arange(B * T).reshape(B, T) % 3 == 1, truncate_every=3),
    "chunks": functional(checkpoint_every=3),
    "dropout": functional(network=DEEP, dropout=0.5, dropout_key=KEY),
    "bfloat16": functional(jnp.bfloat16, network={"proj_size": 2}),
    "float64": functional(jnp.float64),
    "states": (lambda p, x: jax_lstm.lstm_states(p, x), arguments(**DEEP)),
    "streaming": (lambda p, x: jax_lstm.lstm_stream(p, x), arguments(num_layers=2, proj_size=2)),
    "rnn": (lambda p, x: jax_lstm.rnn(p, x), (drawn_weights(D, H, kind="rnn", dtype=np.float32), X)),
    "linen.LSTM": linen_case(linen.LSTM(H), X),
    "linen.SequenceModel": linen_case(linen.SequenceModel(V, D, H, 5), TOKENS),
    "nnx.LSTM": nnx_case(partial(nnx.LSTM, D, H), X),
    "nnx.SequenceModel": nnx_case(partial(nnx.SequenceModel, V, D, H, 5), TOKENS),
}


def training_step(function):
    """Return a function that gives the value and the gradients of weights and inputs, or only of weights for tokens."""

    def loss(params, x):
        return sum(jnp.sum(a.astype(jnp.float32) ** 2) for a in jax.tree.leaves(function(params, x)))

    def step(params, x):
        argnums = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else 0
        return jax.value_and_grad(loss, argnums)(params, x)

    return step
