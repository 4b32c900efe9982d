"""The public functions under JAX's strict modes. They need no implicit promotion of dtypes or ranks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests.support.arrays import drawn_weights, normal

B, T, D, H = 2, 5, 3, 4
FLAGS = np.arange(B * T).reshape(B, T)
DTYPES = ["bfloat16", "float16", "float32", "float64"]
OPTIONS = {
    "plain": {},
    "chunks": {"checkpoint_every": 2},
    "lengths": {"lengths": np.array([3, 0])},
    "lengths in int32": {"lengths": jnp.array([3, 0], jnp.int32)},
    "lengths in uint8": {"lengths": np.array([3, 0], np.uint8)},
    "mask and reset": {
        "mask": np.arange(B * T).reshape(B, T) % 3 > 0,
        "reset": np.arange(B * T).reshape(B, T) % 4 == 1,
    },
    "truncated": {"truncate_every": 2},
    "dropout": {"dropout": np.float64(0.5), "dropout_key": jax.random.key(2)},
    "narrow carry": {"carry_dtype": jnp.bfloat16},
    "wide carry": {"carry_dtype": jnp.float64},
}
NETWORKS = {"stacked": {"num_layers": 2, "bidirectional": True}, "projected": {"proj_size": 2}}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def problem(dtype, **network):
    return drawn_weights(D, H, dtype=jnp.dtype(dtype), **network), normal((B, T, D), jnp.dtype(dtype))


def total(tree):
    return sum(jnp.sum(a.astype(jnp.float64)) for a in jax.tree.leaves(tree))


def differentiate(f, *arguments):
    """Trace the value, the gradient and its derivative, and return the shape and dtype of the value."""
    gradient = jax.grad(lambda *given: total(f(*given)), argnums=tuple(range(len(arguments))))
    jax.eval_shape(lambda *given: jax.jvp(gradient, given, given), *arguments)
    return jax.eval_shape(f, *arguments)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (dtype, name)
        for dtype in DTYPES
        for name in OPTIONS
        if dtype != "float16" or name in ("plain", "mask and reset")
    ],
)
def test_lstm(dtype, name):
    params, x = problem(dtype, num_layers=2)
    y, last = differentiate(lambda p, x: jax_lstm.lstm(p, x, **OPTIONS[name]), params, x)
    assert y.dtype == dtype
    assert last.c.dtype == OPTIONS[name].get("carry_dtype", "float64" if dtype == "float64" else "float32")


def test_without_jit():
    params, x = problem("bfloat16", **NETWORKS["stacked"])
    y, last = jax_lstm.lstm(params, x, **OPTIONS["mask and reset"])
    assert (y.dtype, last.c.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS)
def test_other_networks_and_states(dtype, network):
    params, x = problem(dtype, **NETWORKS[network])
    differentiate(jax_lstm.lstm, params, x, jax_lstm.zero_state(params, B))
    differentiate(jax_lstm.lstm_states, params, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_and_streams(dtype):
    params, x = problem(dtype, num_layers=2)
    differentiate(jax_lstm.lstm_stream, params, x)
    differentiate(lambda p, x: jax_lstm.lstm_step(p, x[:, 0]), params, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("carry", [None, "bfloat16", "float64"])
@pytest.mark.parametrize("projection", [{}, {"proj_size": 2}])
def test_cells(dtype, carry, projection):
    params, x = problem(dtype, **projection)
    cell = convert.cell(params)
    state = jax.tree.map(lambda a: a[0].astype(carry or "float32"), jax_lstm.zero_state(params, B))
    differentiate(lambda p, x, s: jax_lstm.lstm_cell(p, s, x[:, 0], carry_dtype=carry), cell, x, state)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rnn(dtype):
    params = drawn_weights(D, H, kind="rnn", num_layers=2, bidirectional=True, dtype=jnp.dtype(dtype))
    x = normal((B, T, D), jnp.dtype(dtype))
    differentiate(lambda p, x: jax_lstm.rnn(p, x, lengths=np.array([3, 0])), params, x)
    cell = {name.removesuffix("_l0"): a for name, a in params.items() if name.endswith("_l0")}
    differentiate(lambda p, x: jax_lstm.rnn_cell(p, None, x[:, 0]), cell, x)


def test_gradient_flow():
    params, x = problem("float32")
    assert np.isfinite(jax_lstm.gradient_flow(params, x).log2_dc).all()


@pytest.mark.parametrize("style", ["torch", "flax", "keras", "haiku"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_initial_weights(dtype, style):
    for forget_bias in (None, 1.0, "chrono:10"):
        options = {"style": style, "forget_bias": forget_bias, "dtype": jnp.dtype(dtype)}
        jax.eval_shape(lambda key, options=options: jax_lstm.init_lstm(key, D, H, **options), jax.random.key(0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_flax_modules(dtype):
    """The modules cast float32 weights to ``dtype`` themselves."""
    dtype = jnp.dtype(dtype)
    x = normal((B, T, D), np.float32)
    initial = lambda module, x: jax.eval_shape(module.init, jax.random.key(0), x)
    model = linen.LSTM(H, num_layers=2, dtype=dtype)
    differentiate(model.apply, initial(model, x), x)
    tokens = jnp.arange(B * T).reshape(B, T) % 7
    words = linen.SequenceModel(vocab_size=7, embedding_size=D, hidden_size=H, output_size=5, dtype=dtype)
    differentiate(lambda v: words.apply(v, tokens), initial(words, tokens))
    for cell in (linen.LSTMCell(hidden_size=H, dtype=dtype), linen.LSTMCell(features=H, dtype=dtype)):
        layer = flax_linen.RNN(cell)
        differentiate(layer.apply, initial(layer, x), x)
    module = nnx.LSTM(D, H, num_layers=2, dtype=dtype, rngs=flax_nnx.Rngs(0))
    graph, weights = flax_nnx.split(module)
    differentiate(lambda w, x: flax_nnx.merge(graph, w)(x), weights, x)
    cell = flax_nnx.RNN(nnx.LSTMCell(in_features=D, hidden_features=H, dtype=dtype, rngs=flax_nnx.Rngs(0)))
    assert cell(x).shape == (B, T, H)


def test_the_caller_must_promote_mixed_dtypes():
    """JAX chooses the result type of x and the weights, and refuses to choose one in strict mode."""
    params, x = problem("float32")
    with pytest.raises(jax.dtypes.TypePromotionError):
        jax_lstm.lstm(params, x.astype(jnp.bfloat16))


def test_a_state_may_be_wider_than_the_weights():
    params, x = problem("bfloat16")
    state = LSTMState(jnp.ones((1, B, H), jnp.float32), jnp.ones((1, B, H), jnp.float32))
    differentiate(jax_lstm.lstm, params, x, state)
