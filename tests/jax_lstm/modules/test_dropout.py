"""Dropout in the Flax modules: it is never silently left out, and never silently applied."""

from __future__ import annotations

import flax
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx
from tests.support.arrays import normal

X = normal((2, 6, 3))
TOKENS = np.arange(12).reshape(2, 6) % 7
KEY = jax.random.key(1)
RNGS = {"dropout": KEY}
OPTIONS = {"num_layers": 2, "dropout": 0.5}
MODULES = {
    "LSTM": (linen.LSTM(5, **OPTIONS), linen.LSTM(5, num_layers=2), X),
    "SequenceModel": (
        linen.SequenceModel(7, 3, 5, 4, **OPTIONS),
        linen.SequenceModel(7, 3, 5, 4, num_layers=2),
        TOKENS,
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_linen_requires_the_option_deterministic(name):
    """flax.linen.Dropout also requires it, even in init."""
    module, plain, x = MODULES[name]
    variables = plain.init(jax.random.key(0), x)
    message = (
        r"dropout=0\.5 needs deterministic, in the call or as an option of the module; got None\. Pass "
        r"deterministic=True to evaluate, deterministic=False and rngs=\{'dropout': key\} to train"
    )
    dropout = flax.linen.Dropout(0.5)
    for call in (
        lambda m, *x: m.apply(variables, *x),
        lambda m, *x: m.apply(variables, *x, rngs=RNGS),
        lambda m, *x: m.init(jax.random.key(0), *x),
    ):
        with pytest.raises(ValueError, match=message):
            call(module, x)
        with pytest.raises(ValueError, match="deterministic"):
            call(dropout, X)
    same = module.init(jax.random.key(0), x, deterministic=True)
    jax.tree.map(np.testing.assert_array_equal, same, variables)
    expected = plain.apply(variables, x)[0]
    np.testing.assert_array_equal(module.apply(variables, x, deterministic=True)[0], expected)
    noisy = module.apply(variables, x, deterministic=False, rngs=RNGS)[0]
    assert not np.array_equal(noisy, expected)


@pytest.mark.parametrize("name", MODULES)
def test_the_option_of_a_linen_module_is_the_default_of_its_call(name):
    module, plain, x = MODULES[name]
    variables = plain.init(jax.random.key(0), x)
    expected = plain.apply(variables, x)[0]
    noisy = module.apply(variables, x, deterministic=False, rngs=RNGS)[0]
    for option in (True, False):
        fixed = module.clone(deterministic=option)
        np.testing.assert_array_equal(fixed.apply(variables, x, rngs=RNGS)[0], expected if option else noisy)
        reverse = fixed.apply(variables, x, deterministic=not option, rngs=RNGS)[0]
        np.testing.assert_array_equal(reverse, noisy if option else expected)


def test_linen_without_dropout_requires_nothing():
    variables = linen.LSTM(5).init(jax.random.key(0), X)
    expected = linen.LSTM(5).apply(variables, X)[0]
    np.testing.assert_array_equal(linen.LSTM(5).apply(variables, X, deterministic=False)[0], expected)


def test_training_without_a_key_is_an_error_of_flax():
    module, plain, x = MODULES["LSTM"]
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        module.apply(plain.init(jax.random.key(0), x), x, deterministic=False)


def nnx_modules(**options):
    rngs = flax_nnx.Rngs(0)
    return {
        "LSTM": (nnx.LSTM(3, 5, **OPTIONS, **options, rngs=rngs), X),
        "SequenceModel": (nnx.SequenceModel(7, 3, 5, 4, **OPTIONS, **options, rngs=rngs), TOKENS),
    }


@pytest.mark.parametrize("name", ["LSTM", "SequenceModel"])
def test_nnx_modules_respect_train_eval_and_view(name):
    module, x = nnx_modules()[name]
    run = jax.jit(lambda m, x, key: m(x, dropout_key=key)[0])
    noisy = run(module, x, KEY)
    module.eval()
    expected = module(x)[0]
    assert not np.array_equal(noisy, expected)
    np.testing.assert_array_equal(module(x, dropout_key=KEY)[0], expected)  # in evaluation mode a key changes nothing
    viewed = flax_nnx.view(module, deterministic=False)
    np.testing.assert_array_equal(run(viewed, x, KEY), noisy)
    np.testing.assert_array_equal(run(flax_nnx.view(viewed, deterministic=True), x, KEY), run(module, x, KEY))
    module.train()
    np.testing.assert_array_equal(run(module, x, KEY), noisy)
    np.testing.assert_array_equal(module(x, deterministic=True)[0], expected)  # the argument of the call has precedence
    module.eval()
    np.testing.assert_allclose(module(x, deterministic=False, dropout_key=KEY)[0], noisy, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM", "SequenceModel"])
def test_nnx_requires_a_key_in_training(name):
    module, x = nnx_modules()[name]
    message = (
        r"dropout=0\.5 needs dropout_key=jax\.random\.key\(\.\.\.\), .*got None\. To evaluate, call model\.eval\(\) or "
        r"pass deterministic=True"
    )
    with pytest.raises(ValueError, match=message):
        module(x)
    with pytest.raises(ValueError, match=message):
        nnx_modules(deterministic=True)[name][0](x, deterministic=False)
    y, _ = module(x, dropout_key=flax_nnx.Rngs(dropout=1).dropout())
    assert y.shape[:2] == (2, 6)
    assert np.array_equal(*(nnx_modules(deterministic=True)[name][0](x)[0] for _ in range(2)))


def test_view_with_an_unknown_attribute_is_an_error_of_flax():
    with pytest.raises(ValueError, match="use_running_average"):
        flax_nnx.view(nnx.LSTM(3, 5, rngs=flax_nnx.Rngs(0)), use_running_average=True)


def test_eval_switches_a_whole_model_of_a_user():
    class Model(flax_nnx.Module):
        def __init__(self, rngs):
            self.lstm = nnx.LSTM(3, 5, **OPTIONS, rngs=rngs)
            self.dropout = flax_nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x, key=None):
            return self.dropout(self.lstm(x, dropout_key=key)[0])

    model = Model(flax_nnx.Rngs(0))
    with pytest.raises(ValueError, match="dropout_key"):
        model(X)
    model.eval()
    np.testing.assert_array_equal(model(X), model(X))
    params = flax_nnx.to_pure_dict(flax_nnx.state(model.lstm, flax_nnx.Param))
    np.testing.assert_allclose(model(X), jax_lstm.lstm(params, X)[0], rtol=0, atol=1e-6)
    assert jnp.any(flax_nnx.view(model, deterministic=False)(X, KEY) == 0)
