"""Initial weights have the distributions of the libraries that the styles are named after."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm._src.init import STYLES
from tests.support.plain import shapes
from tests.support.requirements import need

D, H = 64, 256
KEY = jax.random.key(0)
OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"proj_size": 3, "num_layers": 2}]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("options", OPTIONS)
def test_names_shapes_and_order_agree_with_torch(style, options):
    params = jax_lstm.init_lstm(KEY, 3, 5, **options, style=style, dtype=jnp.bfloat16)
    expected = shapes(3, 5, **options)
    assert {n: a.shape for n, a in params.items()} == expected
    assert list(params) == list(expected)
    assert {a.dtype for a in params.values()} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("options", [*OPTIONS, {"num_layers": 2, "bidirectional": True, "proj_size": 2}])
def test_the_names_and_shapes_that_tests_expect_agree_with_torch(options):
    torch = need("torch")
    shapes_of = lambda module: [(name, tuple(a.shape)) for name, a in module.state_dict().items()]
    assert list(shapes(3, 5, **options).items()) == shapes_of(torch.nn.LSTM(3, 5, **options))
    if "proj_size" not in options:
        assert list(shapes(3, 5, **options, gates=1).items()) == shapes_of(torch.nn.RNN(3, 5, **options))


def test_torch_style():
    params = jax_lstm.init_lstm(KEY, D, H, 2, proj_size=32)
    for name, a in params.items():
        assert 0.99 / 16 < float(jnp.abs(a).max()) <= 1 / 16, name
        assert abs(float(jnp.std(a)) - 1 / 16 / np.sqrt(3)) < 0.002, name
    drawn = [np.asarray(a).ravel()[:8] for a in params.values()]
    assert len({tuple(a) for a in drawn}) == len(drawn)


def gates(a):
    return dict(zip("ifgo", jnp.split(a, 4), strict=True))


def test_flax_style():
    params = jax_lstm.init_lstm(KEY, D, H, style="flax")
    for gate in gates(params["weight_hh_l0"]).values():
        np.testing.assert_allclose(gate @ gate.T, jnp.eye(H), atol=1e-5)
    for gate in gates(params["weight_ih_l0"]).values():
        assert abs(float(jnp.std(gate)) - 1 / np.sqrt(D)) < 0.003
    assert not params["bias_ih_l0"].any()
    assert not params["bias_hh_l0"].any()


def test_keras_style():
    params = jax_lstm.init_lstm(KEY, D, H, style="keras")
    w = params["weight_hh_l0"].T
    np.testing.assert_allclose(w @ w.T, jnp.eye(H), atol=1e-5)
    limit = np.sqrt(6 / (D + 4 * H))
    assert 0.99 * limit < float(jnp.abs(params["weight_ih_l0"]).max()) <= limit
    total = gates(params["bias_ih_l0"] + params["bias_hh_l0"])
    assert {gate: (float(b.min()), float(b.max())) for gate, b in total.items()} == {
        "i": (0, 0),
        "f": (1, 1),
        "g": (0, 0),
        "o": (0, 0),
    }


def test_haiku_style():
    params = jax_lstm.init_lstm(KEY, D, H, style="haiku")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert 1.99 / np.sqrt(D + H) < float(jnp.abs(params[name]).max()) <= 2 / np.sqrt(D + H)
    assert set(np.asarray(gates(params["bias_ih_l0"])["f"])) == {1.0}


@pytest.mark.parametrize("style", STYLES)
def test_forget_bias_is_the_sum_of_both_biases(style):
    params = jax_lstm.init_lstm(KEY, 3, 5, 2, style=style, forget_bias=2.5)
    for end in ("_l0", "_l1"):
        total = gates(params["bias_ih" + end] + params["bias_hh" + end])
        assert set(np.asarray(total["f"])) == {2.5}
        assert set(np.asarray(total["i"])) != {2.5}


def test_chrono_bias():
    params = jax_lstm.init_lstm(KEY, 3, 1024, forget_bias="chrono:1000")
    total = gates(params["bias_ih_l0"] + params["bias_hh_l0"])
    np.testing.assert_array_equal(total["i"], -total["f"])
    memory = np.exp(total["f"])
    assert 1 <= memory.min() < memory.max() <= 999
    assert abs(memory.mean() - 500) < 20  # the standard error of the mean of 1024 draws is 9
    assert float(jnp.abs(total["g"]).max()) <= 2 / 32


@pytest.mark.parametrize("style", STYLES)
def test_rnn_styles(style):
    params = jax_lstm.init_rnn(KEY, 16, 32, 2, bidirectional=True, style=style)
    assert {n: a.shape for n, a in params.items()} == shapes(16, 32, 2, bidirectional=True, gates=1)
    w = params["weight_hh_l0"]
    orthogonal = bool(jnp.allclose(w @ w.T, jnp.eye(32), atol=1e-5))
    assert orthogonal == (style in ("flax", "keras"))
