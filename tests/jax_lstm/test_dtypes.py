"""Parameters, computation and carry have their own dtypes, and no dtype changes silently."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, linen
from tests.support.arrays import drawn_weights, normal
from tests.support.jaxprs import products

B, T, D, H = 3, 8, 4, 6
KEYS = jax.random.split(jax.random.key(0), 2)
OPTIONS = {"num_layers": 2, "bidirectional": True}


def problem(dtype):
    return drawn_weights(D, H, **OPTIONS, dtype=dtype), normal((B, T, D), dtype)


@pytest.mark.parametrize(
    ("dtype", "carry"),
    [(jnp.float64, jnp.float64), (jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float32), (jnp.float16, jnp.float32)],
)
def test_outputs_have_the_compute_dtype_and_states_the_carry_dtype(dtype, carry):
    def run(params, x):
        gradient = jax.grad(lambda p: jnp.sum(jax_lstm.lstm(p, x)[0].astype(jnp.float32)))
        return jax_lstm.lstm(params, x), jax_lstm.lstm_states(params, x), gradient(params)

    (y, state), states, gradients = jax.jit(run)(*problem(dtype))
    assert (y.dtype, state.h.dtype, state.c.dtype) == (dtype, carry, carry)
    assert (states.h.dtype, states.c.dtype) == (carry, carry)
    assert {a.dtype for a in gradients.values()} == {jnp.dtype(dtype)}


def test_mixed_inputs_are_computed_in_their_result_type():
    params, x = problem(jnp.float32)
    run = jax.jit(lambda p, x: jax_lstm.lstm(p, x)[0])
    assert run(params, x.astype(jnp.bfloat16)).dtype == jnp.float32
    assert run(params, x.astype(jnp.float64)).dtype == jnp.float64


def test_the_carry_has_the_given_carry_dtype():
    for dtype, carry in ((jnp.bfloat16, jnp.bfloat16), (jnp.float32, jnp.float64)):
        run = jax.jit(lambda p, x, carry=carry: jax_lstm.lstm(p, x, carry_dtype=carry)[1].c)
        assert run(*problem(dtype)).dtype == carry
    params, x = problem(jnp.float32)
    x = np.tile(x, (1, 60, 1))  # several blocks of steps
    expected = jax.jit(jax.grad(lambda p: jnp.sum(jax_lstm.lstm(p, x)[0])))(params)
    run = lambda p: jnp.sum(jax_lstm.lstm(p, x, carry_dtype=jnp.float64)[0])
    for name, got in jax.jit(jax.grad(run))(params).items():
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected[name], rtol=1e-3, atol=1e-4 * np.abs(expected[name]).max())


@pytest.mark.isa
def test_a_float32_carry_is_more_accurate_than_a_bfloat16_one():
    """The cell state is a running sum, and over 500 steps a bfloat16 sum loses accuracy."""
    params = jax_lstm.init_lstm(KEYS[0], D, H, forget_bias="chrono:500", dtype=jnp.bfloat16)
    x = jax.random.normal(KEYS[1], (B, 500, D), jnp.bfloat16)
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, x))
    last = lambda carry: jax.jit(lambda p, x: jax_lstm.lstm(p, x, carry_dtype=carry)[1].c)
    truth = last(None)(*wide)
    error = lambda c: float(jnp.linalg.norm(c.astype(jnp.float64) - truth) / jnp.linalg.norm(truth))
    default, narrow = (error(last(carry)(params, x)) for carry in (None, jnp.bfloat16))
    unit = 2.0**-8
    assert default < 2 * unit < narrow


@pytest.mark.isa
def test_bfloat16_gradients_agree_with_float64_ones_within_rounding():
    params, x = problem(jnp.bfloat16)
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, x))
    loss = lambda p, x: jnp.sum(jax_lstm.lstm(p, x)[0].astype(jnp.float64) ** 2)
    gradient = jax.jit(jax.grad(loss))
    got, truth = gradient(params, x), gradient(*wide)
    for name, expected in truth.items():
        error = jnp.linalg.norm(got[name].astype(jnp.float64) - expected) / jnp.linalg.norm(expected)
        assert error < 16 * 2.0**-8, name  # a few roundings of bfloat16, with u = 2^-8, per relevant step


def test_cotangents_that_float16_cannot_hold_are_summed():
    """Most cotangents of gate sums are near or below float16's smallest number, 2^-24. Their sum is not."""
    params = jax.tree.map(lambda a: a.astype(jnp.float16), drawn_weights(D, H, dtype=np.float32))
    x = jax.random.normal(KEYS[1], (32, 64, D), jnp.float16)
    loss = lambda p, x: jnp.sum(jax_lstm.lstm(p, x)[0] * jnp.asarray(2.0**-22, x.dtype))
    gradient = jax.jit(jax.grad(loss))
    got = gradient(params, x)["bias_ih_l0"].astype(jnp.float64)
    truth = gradient(*jax.tree.map(lambda a: a.astype(jnp.float64), (params, x)))["bias_ih_l0"]
    assert jnp.linalg.norm(got - truth) < 0.01 * jnp.linalg.norm(truth)


def test_bfloat16_is_kept_in_bfloat16_between_the_passes():
    """The gates and h of all steps are in bfloat16. Only c is float32."""
    params, x = drawn_weights(D, 16, dtype=np.float32), np.ones((B, 90, D), np.float32)
    params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (params, x))
    held = jax.eval_shape(lambda p, x: jax.tree.leaves(jax.vjp(lambda *a: jax_lstm.lstm(*a)[0], p, x)[1]), params, x)
    of_steps = [a for a in held if a.shape[:1] == (90,) and a.shape[-1] >= 16]
    assert sorted((a.shape[-1], a.dtype.name) for a in of_steps) == [
        (16, "bfloat16"),
        (16, "float32"),
        (64, "bfloat16"),
    ]


def test_a_bfloat16_run_does_not_round_its_float32_state():
    params, x = problem(jnp.bfloat16)
    state = LSTMState(jnp.full((4, B, H), 0.1, jnp.float32), jnp.full((4, B, H), 1 / 3, jnp.float32))
    _, last = jax_lstm.lstm(params, x, state, lengths=jnp.zeros(B, int))
    np.testing.assert_array_equal(last.c, state.c)


def test_the_option_dtype_of_linen_is_the_compute_dtype():
    x = jnp.ones((B, T, D))
    module = linen.LSTM(H, dtype=jnp.bfloat16)
    variables = jax.jit(module.init)(KEYS[0], x)
    assert variables["params"]["weight_ih_l0"].dtype == jnp.float32
    y, state = jax.jit(module.apply)(variables, x)
    assert (y.dtype, state.c.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 4}])
def test_precision_reaches_every_product(options):
    params = drawn_weights(D, H, num_layers=2, bidirectional=True, proj_size=2, dtype=np.float32)
    x = jnp.ones((B, T, D), jnp.float32)
    used = products(jax.grad(lambda p: jnp.sum(jax_lstm.lstm(p, x, precision="highest", **options)[0])), params)
    assert len(used) > 20
    assert {p.params["precision"] for p in used} == {(jax.lax.Precision.HIGHEST,) * 2}


def test_bfloat16_products_accumulate_in_float32():
    params = drawn_weights(D, H, proj_size=2, dtype=jnp.bfloat16)
    x = jnp.ones((B, T, D), jnp.bfloat16)
    accumulators = [p.params["preferred_element_type"] for p in products(lambda p: jax_lstm.lstm(p, x), params)]
    assert accumulators.count(jnp.float32) >= 3


@pytest.mark.isa
@pytest.mark.parametrize("proj_size", [0, 3])
def test_a_cell_agrees_with_a_step_of_the_loop_in_bfloat16(proj_size):
    params = drawn_weights(D, H, proj_size=proj_size, dtype=jnp.bfloat16)
    x = normal((B, 2, D), jnp.bfloat16)
    _, last = jax_lstm.lstm(params, x)
    cell = {name.removesuffix("_l0"): a for name, a in params.items()}
    state = LSTMState(jnp.zeros((B, proj_size or H), jnp.float32), jnp.zeros((B, H), jnp.float32))
    for t in range(2):
        state = jax_lstm.lstm_cell(cell, state, x[:, t])
    for got, expected in ((state.h, last.h[0]), (state.c, last.c[0])):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # float32 sums; bfloat16 is 4e-3


def test_nothing_needs_rank_promotion():
    """A project may have switched JAX's implicit broadcasting off."""
    with jax.numpy_rank_promotion("raise"):
        params, x = problem(jnp.float32)
        jax.jit(jax.grad(lambda p: jnp.sum(jax_lstm.lstm(p, x, lengths=[1, 2, 8], truncate_every=3)[0])))(params)
        cell = {n.removesuffix("_l0"): a for n, a in drawn_weights(D, H, dtype=np.float32).items()}
        jax_lstm.lstm_cell(cell, LSTMState(jnp.zeros((B, H)), jnp.zeros((B, H))), x[:, 0])
        jax.jit(linen.SequenceModel(7, 3, 5, 4).init)(KEYS[0], jnp.zeros((B, T), int))
