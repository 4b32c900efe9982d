"""Rows on an explicit mesh that is not set: the code must read the mesh from the types of the arrays.

From JAX 0.11 on, zeros_like of an array on such a mesh is not on the mesh, unless the mesh is set.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests import ROOT
from tests.support import xla_flags
from tests.support.arrays import assert_close, drawn_like, drawn_weights, normal

B, T, D, H, V = 4, 6, 3, 4, 7
PARAMS = drawn_weights(D, H, num_layers=2, bidirectional=True)
ONE_DIRECTION = drawn_weights(D, H, num_layers=2)
ONE_LAYER = drawn_weights(D, H)
RNN = drawn_weights(D, H, kind="rnn", num_layers=2)
X = normal((B, T, D))
TOKENS = np.arange(B * T).reshape(B, T) % V
FLAGS = np.arange(B * T).reshape(B, T)
MODULE = linen.LSTM(H, num_layers=2, param_dtype=jnp.float64)
WORDS = linen.SequenceModel(V, D, H, 5, param_dtype=jnp.float64)
GRAPH, WEIGHTS = flax_nnx.split(
    flax_nnx.eval_shape(lambda: nnx.LSTM(D, H, param_dtype=jnp.float64, rngs=flax_nnx.Rngs(0)))
)


def variables(module, x):
    return drawn_like(jax.eval_shape(module.init, jax.random.key(0), x))


def functional(**options):
    return lambda params, x: jax_lstm.lstm(params, x, **options)


RUNS = {
    "lstm": (functional(), PARAMS, X),
    "chunks and truncation": (functional(checkpoint_every=4, truncate_every=3), PARAMS, X),
    "lengths": (functional(lengths=np.array([1, 0, 6, 3])), PARAMS, X),
    "mask and reset": (functional(mask=FLAGS % 5 > 0, reset=FLAGS % 4 == 3), PARAMS, X),
    "one state for all rows": (functional(state=LSTMState(np.ones((4, 1, H)), np.ones((4, 1, H)))), PARAMS, X),
    "lstm_states": (jax_lstm.lstm_states, PARAMS, X),
    "lstm_stream": (jax_lstm.lstm_stream, ONE_DIRECTION, X),
    "lstm_step": (lambda params, x: jax_lstm.lstm_step(params, x[:, 0]), ONE_DIRECTION, X),
    "lstm_cell": (lambda params, x: jax_lstm.lstm_cell(params, None, x[:, 0]), convert.cell(ONE_LAYER), X),
    "rnn": (jax_lstm.rnn, RNN, X),
    "linen": (MODULE.apply, variables(MODULE, X), X),
    "nnx": (lambda weights, x: flax_nnx.merge(GRAPH, weights)(x), drawn_like(WEIGHTS), X),
    "SequenceModel": (WORDS.apply, variables(WORDS, TOKENS), TOKENS),
}


def value_and_gradient(run):
    """Return the value, and the gradient of the weights and of x, unless x has tokens."""

    def loss(params, x):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run(params, x)))

    def both(params, x):
        wrt = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else (0,)
        return run(params, x), jax.grad(loss, argnums=wrt)(params, x)

    return jax.jit(both)


@functools.cache
def without_a_mesh(name):
    run, params, x = RUNS[name]
    return value_and_gradient(run)(params, x)


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        *((name, 2) for name in RUNS),
        ("lstm", 1),
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("rnn", "linen", "nnx", "SequenceModel")),
    ],
)
def test_values_and_gradients_agree_with_those_without_a_mesh(name, devices):
    run, params, x = RUNS[name]
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
    got = value_and_gradient(run)(params, jax.device_put(x, NamedSharding(mesh, P("data"))))
    assert_close(got, without_a_mesh(name))
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(got))


ON_ONE_DEVICE = """
import jax
from tests.jax_lstm import test_default_mesh as tests
assert jax.device_count() == 1
for name in ("lstm", "chunks and truncation", "mask and reset", "rnn"):
    tests.test_values_and_gradients_agree_with_those_without_a_mesh(name, 1)
"""


def test_a_machine_with_one_device():
    """On one device a weight's gradient is summed in a loop, unless the types have a mesh."""
    environment = os.environ | {"XLA_FLAGS": xla_flags.FLAGS, "JAX_ENABLE_X64": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ON_ONE_DEVICE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("devices", [1, 2])
def test_outputs_have_the_sharding_of_the_rows(devices):
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    y, last = jax.jit(jax_lstm.lstm)(PARAMS, x)
    assert y.sharding.is_equivalent_to(x.sharding, 3)
    assert last.c.sharding.is_equivalent_to(NamedSharding(mesh, P(None, "data")), 3)


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (jax_lstm.lstm, {"checkpoint_every": 4}),
        (jax_lstm.rnn, {}),
        pytest.param(jax_lstm.lstm, {}, marks=pytest.mark.slow),
        pytest.param(jax_lstm.rnn, {"checkpoint_every": 4}, marks=pytest.mark.slow),
    ],
)
def test_a_reset_state_that_is_sharded_although_x_is_not(run, options):
    """The type of the loop's carry depends on x, the weights, the events and both states."""
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    params = PARAMS if run is jax_lstm.lstm else RNN
    state = jax.tree.map(lambda a: a + 0.5, jax_lstm.zero_state(params, B))
    loss = lambda params, x, state: jnp.sum(run(params, x, reset=FLAGS % 4 == 3, reset_state=state, **options)[0] ** 2)
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    on = lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))
    got = gradient(params, on(X, P()), on(state, P(None, "data")))
    assert_close(got, gradient(params, X, state))


def test_second_derivatives():
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    loss = lambda x: jnp.sum(jnp.sin(jax_lstm.lstm(PARAMS, x)[0]))
    along = jax.jit(lambda x: jax.jvp(jax.grad(loss), (x,), (x,))[1])
    got = along(jax.device_put(X, NamedSharding(mesh, P("data"))))
    np.testing.assert_allclose(got, along(X), rtol=1e-11, atol=1e-13)
