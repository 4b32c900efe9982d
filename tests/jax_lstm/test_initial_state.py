"""Initial states: `zero_state`, one state for all rows, no state at a first step; and modules that return only y."""

from __future__ import annotations

import flax.linen as flax_linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests.support.arrays import drawn_weights, normal

B, T, D, H = 3, 5, 2, 4
X = normal((B, T, D), np.float32)
NETWORKS = {
    "one layer": {},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "projected": {"num_layers": 2, "proj_size": 3},
}


def params_of(dtype="float32", **network):
    return drawn_weights(D, H, **network, dtype=jnp.dtype(dtype))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_zero_state_has_the_shapes_of_a_state(network, batch):
    params = params_of(**NETWORKS[network])
    _, last = jax.eval_shape(jax_lstm.lstm, params, jnp.zeros((*batch, T, D), jnp.float32))
    zero = jax_lstm.zero_state(params, batch)
    assert [(a.shape, a.dtype) for a in (zero.h, zero.c)] == [(a.shape, a.dtype) for a in (last.h, last.c)]
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(zero))
    module = linen.LSTM(H, **NETWORKS[network])
    layer = nnx.LSTM(D, H, **NETWORKS[network], rngs=flax_nnx.Rngs(0))
    for other in (module.zero_state(batch), layer.zero_state(batch)):
        jax.tree.map(np.testing.assert_array_equal, other, zero)


def test_zero_state_of_an_int_a_cell_and_an_rnn():
    params = params_of()
    assert jax_lstm.zero_state(params, B).h.shape == (1, B, H)
    assert jax_lstm.zero_state(convert.cell(params), B).c.shape == (B, H)
    rnn_params = drawn_weights(D, H, kind="rnn", num_layers=2)
    assert jax_lstm.zero_state(rnn_params, B).shape == (2, B, H)
    assert jax_lstm.zero_state({"weight_hh": jnp.ones((H, H)), "weight_ih": jnp.ones((H, D))}, B).shape == (B, H)


@pytest.mark.parametrize(
    ("weights", "requested", "expected"),
    [
        ("float32", None, "float32"),
        ("bfloat16", None, "float32"),
        ("float64", None, "float64"),
        ("float32", "bfloat16", "bfloat16"),
    ],
)
def test_dtype_of_a_zero_state(weights, requested, expected):
    assert jax_lstm.zero_state(params_of(weights), B, requested).c.dtype == expected
    assert linen.LSTM(H, param_dtype=jnp.dtype(weights)).zero_state(B, requested).c.dtype == expected
    layer = nnx.LSTM(D, H, param_dtype=jnp.dtype(weights), rngs=flax_nnx.Rngs(0))
    assert layer.zero_state(B, requested).c.dtype == expected


def test_zero_state_of_modules_has_the_dtype_of_their_weights():
    """A call without a state has a state of the same dtype."""
    params = params_of("float64")
    assert linen.LSTM(H).bind({"params": params}).zero_state(B).c.dtype == jnp.float64
    words = linen.SequenceModel(7, D, H, 5)
    variables = words.init(jax.random.key(0), jnp.zeros((B, T), int))
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), variables)
    assert words.bind(wide).zero_state(B).c.dtype == jnp.float64
    layer = nnx.LSTM(D, H, rngs=flax_nnx.Rngs(0))
    for name, value in params.items():
        setattr(layer, name, flax_nnx.Param(value))
    last = layer.zero_state(B)
    assert last.c.dtype == jnp.float64
    for t in range(T):
        _, last = layer.step(X[:, t], last)
    np.testing.assert_allclose(last.c, layer(X)[1].c, rtol=1e-12)


def test_zero_state_of_modules_has_the_carry_dtype():
    assert linen.LSTM(H, carry_dtype=jnp.bfloat16).zero_state(B).c.dtype == jnp.bfloat16
    words = linen.SequenceModel(7, D, H, 5, bidirectional=True)
    assert words.zero_state(B).h.shape == (2, B, H)
    tokens = jnp.zeros((B, T), int)
    variables = words.init(jax.random.key(0), tokens)
    bound = words.bind(variables)
    jax.tree.map(np.testing.assert_array_equal, bound.zero_state(B), words.zero_state(B))
    layer = nnx.SequenceModel(7, D, H, 5, rngs=flax_nnx.Rngs(0))
    assert layer.zero_state(B).h.shape == (1, B, H)


@pytest.mark.parametrize(
    ("batch", "dtype", "error", "message"),
    [
        (2.0, None, TypeError, "batch_shape must be an int or a tuple of ints"),
        ((2, "3"), None, TypeError, "batch_shape must be an int or a tuple of ints"),
        (True, None, TypeError, "batch_shape must be an int or a tuple of ints"),
        (-1, None, ValueError, "batch_shape must have no negative size; got -1"),
        (2, jnp.int32, TypeError, "dtype must be a floating-point dtype of at least 16 bits; got int32"),
    ],
)
def test_wrong_batch_shapes_are_refused(batch, dtype, error, message):
    with pytest.raises(error, match=message):
        jax_lstm.zero_state(params_of(), batch, dtype)


def test_zero_state_refuses_unknown_weights():
    with pytest.raises(ValueError, match="unknown entry 'kernel'"):
        jax_lstm.zero_state({"kernel": jnp.ones((3, 3))}, 2)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("run", [jax_lstm.lstm, jax_lstm.lstm_states, jax_lstm.lstm_stream])
def test_one_state_for_all_rows_gets_the_sum_of_their_gradients(network, run):
    """Such a state can be a learned initial state `[R, 1, H]`."""
    if run is jax_lstm.lstm_stream and network == "bidirectional":
        pytest.skip("lstm_stream takes networks of one direction")
    params = params_of("float64", **NETWORKS[network])
    shapes = jax_lstm.zero_state(params, 1)
    one_state = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), shapes)
    spread = jax.tree.map(lambda a: jnp.repeat(a, B, axis=1), one_state)
    total = lambda state: sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run(params, X, state)))
    jax.tree.map(np.testing.assert_array_equal, run(params, X, one_state), run(params, X, spread))
    gradient = jax.jit(jax.grad(total))
    got, per_row = gradient(one_state), gradient(spread)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b.sum(1, keepdims=True), rtol=1e-12), got, per_row)


def test_one_state_for_one_of_two_batch_axes():
    params = params_of("float64")
    x = jnp.stack((X, 2 * X))
    state = LSTMState(jnp.ones((1, 2, 1, H)), jnp.ones((1, 1, B, H)))
    spread = jax.tree.map(lambda a: jnp.broadcast_to(a, (1, 2, B, H)), state)
    jax.tree.map(np.testing.assert_array_equal, jax_lstm.lstm(params, x, state), jax_lstm.lstm(params, x, spread))


@pytest.mark.parametrize("shape", [(1, 2, H), (1, H), (1, 1, 1, H), (2, 1, H), (1, 1, 1)])
def test_a_state_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"state\.h must be .* = \(1, 3, 4\); got .* A batch axis may also be 1"):
        jax_lstm.lstm(params_of(), X, LSTMState(jnp.ones(shape), jnp.ones((1, 1, H))))


def test_a_first_step_needs_no_state():
    params = params_of(num_layers=2)
    zero = jax_lstm.zero_state(params, B)
    expected = jax_lstm.lstm_step(params, X[:, 0], zero)
    jax.tree.map(np.testing.assert_array_equal, jax_lstm.lstm_step(params, X[:, 0]), expected)
    module = linen.LSTM(H, num_layers=2)
    got = module.apply({"params": params}, X[:, 0], None, method="step")
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    layer = nnx.LSTM(D, H, rngs=flax_nnx.Rngs(0))
    jax.tree.map(np.testing.assert_array_equal, layer.step(X[:, 0], None), layer.step(X[:, 0], layer.zero_state(B)))
    words = linen.SequenceModel(7, D, H, 5)
    tokens = jnp.zeros((B, T), int)
    variables = words.init(jax.random.key(0), tokens)
    logits, _ = words.apply(variables, tokens[:, 0], None, method="step")
    np.testing.assert_allclose(logits, words.apply(variables, tokens)[0][:, 0], rtol=1e-5)


@pytest.mark.parametrize("projection", [{}, {"proj_size": 3}])
def test_a_cell_without_a_state_and_with_one_for_all_rows(projection):
    cell = convert.cell(params_of("float64", **projection))
    zero = jax_lstm.zero_state(cell, B)
    run = lambda state: jax_lstm.lstm_cell(cell, state, X[:, 0])
    jax.tree.map(np.testing.assert_array_equal, run(None), run(zero))
    one = jax.tree.map(lambda a: a[:1] + 0.5, zero)
    spread = jax.tree.map(lambda a: a + 0.5, zero)
    jax.tree.map(np.testing.assert_array_equal, run(one), run(spread))
    with pytest.raises(ValueError, match=r"state\.c must be .* = \(3, 4\); got shape \(2, 4\)"):
        run(LSTMState(zero.h, zero.c[:2]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_cell_of_16_bits_runs_in_a_scan(dtype):
    cell = convert.cell(params_of(dtype))
    zero = jax_lstm.zero_state(cell, B, dtype)
    xs = X.swapaxes(0, 1).astype(dtype)
    last, _ = jax.lax.scan(lambda s, x: (jax_lstm.lstm_cell(cell, s, x, carry_dtype=dtype), None), zero, xs)
    assert last.h.dtype == last.c.dtype == dtype
    with pytest.raises(TypeError, match="carry_dtype must be a floating-point dtype of at least 16 bits; got int32"):
        jax_lstm.lstm_cell(cell, zero, xs[0], carry_dtype=jnp.int32)


def test_a_cell_keeps_float64():
    """Its state has the widest dtype of its arguments, as the state of lstm has."""
    wide = convert.cell(params_of("float64"))
    state = jax_lstm.zero_state(wide, B, "float32")
    assert jax_lstm.lstm_cell(wide, state, X[:, 0]).c.dtype == jnp.float64
    narrow = convert.cell(params_of("float32"))
    x = X[:, 0].astype(jnp.float64)
    assert jax_lstm.lstm_cell(narrow, state, x).c.dtype == jnp.float64
    rnn = {"weight_ih": jnp.ones((H, D), jnp.float64), "weight_hh": jnp.ones((H, H), jnp.float64)}
    assert jax_lstm.rnn_cell(rnn, jnp.zeros((B, H), jnp.float32), X[:, 0]).dtype == jnp.float64
    assert jax_lstm.rnn_cell(rnn, jnp.zeros((B, H), jnp.float32), X[:, 0], carry_dtype="float32").dtype == jnp.float32


def test_modules_that_return_only_y_work_in_a_sequential():
    model = flax_linen.Sequential(
        [linen.LSTM(H, return_state=False), flax_linen.relu, linen.LSTM(2, return_state=False)]
    )
    y, variables = model.init_with_output(jax.random.key(0), X)
    assert y.shape == (B, T, 2)
    inner = variables["params"]
    first, _ = jax_lstm.lstm(inner["layers_0"], X)
    np.testing.assert_allclose(y, jax_lstm.lstm(inner["layers_2"], jax.nn.relu(first))[0], rtol=1e-5, atol=1e-6)
    rngs = flax_nnx.Rngs(0)
    layers = flax_nnx.Sequential(
        nnx.LSTM(D, H, return_state=False, rngs=rngs), nnx.LSTM(H, 2, return_state=False, rngs=rngs)
    )
    assert layers(X).shape == (B, T, 2)
    tokens = jnp.zeros((B, T), int)
    words = linen.SequenceModel(7, D, H, 5, return_state=False)
    logits, variables = words.init_with_output(jax.random.key(0), tokens)
    assert logits.shape == (B, T, 5)
    assert nnx.SequenceModel(7, D, H, 5, return_state=False, rngs=rngs)(tokens).shape == (B, T, 5)
    # A step always returns its state.
    assert words.apply(variables, tokens[:, 0], method="step")[1].c.shape == (1, B, H)
