"""Dtypes of a cell's carry: it is never silently narrower than the weights."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests.support.arrays import drawn_weights
from tests.support.flax_compat import B, D, H, x_of

KEY = jax.random.key(0)
PARAMS = drawn_weights(D, H)
CELL = convert.cell(PARAMS)


def cast(tree, dtype):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def linen_rnn(weights, **options):
    """Return flax.linen's RNN with our cell and these weights: a function from x to the last carry and y."""
    rnn = nn.RNN(linen.LSTMCell(hidden_size=H, **options), return_carry=True)
    return lambda x, **more: rnn.apply({"params": {"cell": weights}}, x, **more)


def nnx_rnn(weights, **options):
    cell = nnx.LSTMCell(input_size=D, hidden_size=H, **options, rngs=flax_nnx.Rngs(0))
    for name, value in weights.items():
        setattr(cell, name, flax_nnx.Param(value))
    return flax_nnx.RNN(cell, return_carry=True)


RNNS = {"linen": linen_rnn, "nnx": nnx_rnn}


@pytest.mark.parametrize("name", RNNS)
def test_float64_weights_have_a_float64_carry(name):
    """param_dtype is float32 here, as in a module whose weights come from a checkpoint."""
    x = x_of(steps=200)
    expected, last = jax_lstm.lstm(PARAMS, x)
    carry, y = RNNS[name](CELL)(x)
    assert carry.h.dtype == carry.c.dtype == y.dtype == jnp.float64
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(carry.c, last.c[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", RNNS)
@pytest.mark.parametrize(("x_dtype", "weights_dtype"), [(jnp.float64, jnp.float32), (jnp.float32, jnp.float64)])
def test_a_narrower_carry_is_an_error_of_jax(name, x_dtype, weights_dtype):
    """The dtype of the initial carry does not depend on x. Flax's own cells raise this error too."""
    run, x = RNNS[name](cast(CELL, weights_dtype)), x_of().astype(x_dtype)
    zeros = LSTMState(h=jnp.zeros((B, H), jnp.float32), c=jnp.zeros((B, H), jnp.float32))
    with pytest.raises(TypeError, match=r"(?s)equal types.*float32\[3,5\].*float64\[3,5\]"):
        run(x, initial_carry=zeros)
    if x_dtype == jnp.float64:
        with pytest.raises(TypeError, match="scan body function carry input and carry output must have equal types"):
            run(x)
    theirs = nn.RNN(nn.OptimizedLSTMCell(H))
    weights = theirs.init(KEY, x_of().astype(jnp.float32))
    with pytest.raises(TypeError, match="scan body function carry input and carry output must have equal types"):
        theirs.apply(cast(weights, weights_dtype), x)


@pytest.mark.parametrize("name", RNNS)
def test_the_carry_keeps_the_given_carry_dtype(name):
    x = x_of()
    carry, y = RNNS[name](CELL, carry_dtype=jnp.float32)(x)
    assert (carry.h.dtype, carry.c.dtype, y.dtype) == (jnp.float32, jnp.float32, jnp.float64)
    expected, last = jax_lstm.lstm(PARAMS, x, carry_dtype=jnp.float32)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
    assert 0 < np.abs(y - jax_lstm.lstm(PARAMS, x)[0]).max() < 1e-6
    np.testing.assert_allclose(carry.c, last.c[0], rtol=0, atol=1e-6)


DTYPES = (jnp.bfloat16, jnp.float32, jnp.float64)


@pytest.mark.parametrize("dtype", [None, *DTYPES])
def test_the_next_carry_is_promoted(dtype):
    """Its dtype is promoted from the carry, x and the weights. With ``dtype``, x and the weights are cast to it."""
    for weights in DTYPES:
        for x_dtype in DTYPES:
            for carry_dtype in DTYPES:
                state = LSTMState(h=jnp.zeros((B, H), carry_dtype), c=jnp.zeros((B, H), carry_dtype))
                x, params = x_of()[:, 0].astype(x_dtype), cast(CELL, weights)
                computed_in = dtype or jnp.promote_types(weights, x_dtype)
                expected = jnp.promote_types(computed_in, carry_dtype)
                module = linen.LSTMCell(hidden_size=H, dtype=dtype)
                nnx_cell = nnx.LSTMCell(input_size=D, hidden_size=H, dtype=dtype, rngs=flax_nnx.Rngs(0))
                for name, value in params.items():
                    setattr(nnx_cell, name, flax_nnx.Param(value))
                step = lambda s, x, module=module, params=params: module.apply({"params": params}, s, x)
                for run in (step, nnx_cell):
                    after, y = jax.eval_shape(run, state, x)
                    assert after.h.dtype == after.c.dtype == expected
                    assert y.dtype == computed_in


def test_float64_weights_with_a_float32_carry_compute_in_float64():
    """Therefore no accuracy is lost."""
    state = LSTMState(h=jnp.full((B, H), 0.25, jnp.float32), c=jnp.full((B, H), -0.5, jnp.float32))
    x = x_of()[:, 0]
    after, y = linen.LSTMCell(hidden_size=H).apply({"params": CELL}, state, x)
    expected = jax_lstm.lstm_cell(CELL, cast(state, jnp.float64), x)
    np.testing.assert_array_equal(after.c, expected.c)
    np.testing.assert_array_equal(y, expected.h)


def test_a_carry_of_zeros_has_the_dtype_of_the_weights():
    cell = linen.LSTMCell(hidden_size=H)
    dtype_of = lambda cell: cell.initialize_carry(None, (B, D)).c.dtype
    assert dtype_of(cell) == jnp.float32  # the weights are not known yet
    assert dtype_of(cell.bind({"params": CELL})) == jnp.float64
    assert dtype_of(cell.bind({"params": {}})) == jnp.float32
    assert dtype_of(cell.bind({"params": cast(CELL, jnp.bfloat16)})) == jnp.float32
    boxed = {name: nn.Partitioned(value, (None,) * value.ndim) for name, value in CELL.items()}
    assert dtype_of(cell.bind({"params": boxed})) == jnp.float64
    assert dtype_of(linen.LSTMCell(hidden_size=H, dtype=jnp.float32).bind({"params": CELL})) == jnp.float32
    assert dtype_of(linen.LSTMCell(hidden_size=H, carry_dtype=jnp.bfloat16).bind({"params": CELL})) == jnp.bfloat16
    nnx_cell = nnx.LSTMCell(input_size=D, hidden_size=H, rngs=flax_nnx.Rngs(0))
    assert nnx_cell.initialize_carry((B, D)).h.dtype == jnp.float32
    for name, value in CELL.items():
        setattr(nnx_cell, name, flax_nnx.Param(value))
    assert nnx_cell.initialize_carry((B, D)).h.dtype == jnp.float64


@pytest.mark.parametrize("name", RNNS)
def test_bfloat16_weights_in_a_loop(name):
    """The carry is float32, as in jax_lstm.lstm. A given carry in bfloat16 stays in bfloat16."""
    run, x = RNNS[name](cast(CELL, jnp.bfloat16)), x_of().astype(jnp.bfloat16)
    carry, y = run(x)
    assert (carry.h.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)
    zeros = LSTMState(h=jnp.zeros((B, H), jnp.bfloat16), c=jnp.zeros((B, H), jnp.bfloat16))
    carry, y = run(x, initial_carry=zeros)
    assert (carry.h.dtype, carry.c.dtype, y.dtype) == (jnp.bfloat16,) * 3


def test_a_cell_made_with_flaxs_names_keeps_carry_dtype():
    cell = linen.LSTMCell(H, carry_dtype=jnp.float64)
    (c, h), y = cell.init_with_output(KEY, cell.initialize_carry(None, (B, D)), x_of()[:, 0].astype(jnp.float32))[0]
    assert c.dtype == h.dtype == y.dtype == jnp.float64
