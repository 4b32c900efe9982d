"""Padding, resets, truncation, layouts and dropout, as properties."""

from __future__ import annotations

import functools
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState
from tests.support import plain
from tests.support.arrays import assert_close, drawn_weights, normal, state_of

B, T, D, H = 4, 6, 3, 5
LENGTHS = np.array([3, 6, 0, 1])
NETWORKS = {
    "one layer": {},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "projected": {"num_layers": 2, "bidirectional": True, "proj_size": 2},
}


def problem(**network):
    params = drawn_weights(D, H, **network, seed=5)
    return params, normal((B, T, D)), state_of(params, B)


lstm = jax.jit(jax_lstm.lstm)


def row_of(state, b):
    return jax.tree.map(lambda a: a[:, b], state)


@pytest.mark.parametrize("network", NETWORKS)
def test_each_row_gives_the_results_of_a_run_by_itself(network):
    params, x, state = problem(**NETWORKS[network])
    y, last = jax.device_get(lstm(params, x, state, lengths=LENGTHS))
    for b, n in enumerate(LENGTHS):
        np.testing.assert_array_equal(y[b, n:], 0.0)
        if n == 0:
            expected = row_of(state, b)
        else:
            single, expected = lstm(params, x[b, :n], row_of(state, b))
            np.testing.assert_allclose(y[b, :n], single, rtol=1e-13)
        np.testing.assert_allclose(row_of(last, b).h, expected.h, rtol=1e-13)
        np.testing.assert_allclose(row_of(last, b).c, expected.c, rtol=1e-13)


@functools.cache
def padded_value_and_gradient(**options):
    """Compile once for every kind of padding."""

    def loss(params, x, state):
        y, last = jax_lstm.lstm(params, x, state, lengths=LENGTHS, **options)
        return jnp.sum(y**2) + jnp.sum(last.h**3) + jnp.sum(last.c**3)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 4}])
def test_the_values_in_the_padding_affect_nothing(network, bad, options):
    params, x, state = problem(**NETWORKS[network])
    bad_x = np.where(np.arange(T)[None, :, None] < LENGTHS[:, None, None], x, bad)
    run = padded_value_and_gradient(**options)
    clean = run(params, x, state)
    jax.tree.map(np.testing.assert_array_equal, run(params, bad_x, state), clean)
    np.testing.assert_array_equal(clean[1][1][LENGTHS == 0], 0.0)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(clean))


def test_an_empty_batch():
    params, x, _ = problem(num_layers=2, bidirectional=True)
    y, last = jax_lstm.lstm(params, x[:0], lengths=LENGTHS[:0], reset=np.ones((0, T), bool))
    assert y.shape == (0, T, 2 * H)
    assert last.c.shape == (4, 0, H)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int64"])
def test_lengths_of_any_integer_dtype(dtype):
    params, x, state = problem()
    expected = jax_lstm.lstm(params, x, state, lengths=LENGTHS)
    got = jax_lstm.lstm(params, x, state, lengths=LENGTHS.astype(dtype))
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    if dtype != "uint8":
        y = lstm(params, x, state, lengths=np.array([2**32 - 1, 6, 0, 1], dtype))[0]
        np.testing.assert_array_equal(y, lstm(params, x, state, lengths=np.array([6, 6, 0, 1], dtype))[0])


def test_lengths_under_jit_are_clipped():
    params, x, state = problem()
    run = jax.jit(lambda n: jax_lstm.lstm(params, x, state, lengths=n)[0])
    np.testing.assert_array_equal(run(jnp.array([99, 6, -3, 1])), run(jnp.array([6, 6, 0, 1])))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_reset_to_a_given_state_runs_each_segment_by_itself(network, lengths):
    """The segments stay independent in the second layer too, in both directions."""
    params, x, state = problem(**NETWORKS[network])
    reset = np.random.default_rng(0).random((B, T)) < 0.4
    reset[1] = [False, True, False, False, True, False]
    y = np.asarray(lstm(params, x, state, reset=reset, reset_state=state, lengths=lengths)[0])
    for b in range(B):
        end = T if lengths is None else lengths[b]
        bounds = sorted({0, *np.flatnonzero(reset[b, :end]).tolist(), int(end)})
        for start, stop in pairwise(bounds):
            single = lstm(params, x[b, start:stop], row_of(state, b))[0]
            np.testing.assert_allclose(y[b, start:stop], single, rtol=1e-12, atol=1e-14)


def test_a_reset_stops_the_gradient_and_passes_it_to_the_reset_state():
    params, x, state = problem()
    reset = np.zeros((B, T), bool)
    reset[:, 3] = True

    def loss(x, state, reset_state):
        return jnp.sum(jax_lstm.lstm(params, x, state, reset=reset, reset_state=reset_state)[0][:, 3:] ** 2)

    d_x, d_state, d_reset_state = jax.grad(loss, argnums=(0, 1, 2))(x, state, state)
    np.testing.assert_array_equal(d_x[:, :3], 0.0)
    assert np.abs(d_x[:, 3:]).min() > 0
    np.testing.assert_array_equal(d_state.c, 0.0)
    assert np.abs(d_reset_state.c).min() > 0


def test_a_reset_in_the_padding_changes_nothing():
    params, x, state = problem(num_layers=2, bidirectional=True)
    reset = np.arange(T)[None] >= LENGTHS[:, None]
    plain = jax_lstm.lstm(params, x, state, lengths=LENGTHS)
    jax.tree.map(np.testing.assert_array_equal, jax_lstm.lstm(params, x, state, lengths=LENGTHS, reset=reset), plain)


def test_truncation_changes_no_value_and_counts_absolute_steps():
    params, x, state = problem(num_layers=2, bidirectional=True)
    plain = jax_lstm.lstm(params, x, state)
    truncated = jax_lstm.lstm(params, x, state, truncate_every=4)
    jax.tree.map(np.testing.assert_array_equal, truncated, plain)

    one, _, first = problem()
    gradient = jax.grad(lambda x: jnp.sum(jax_lstm.lstm(one, x, first, truncate_every=4)[0][:, 4:]))(x)
    np.testing.assert_array_equal(gradient[:, :4], 0.0)
    assert np.abs(gradient[:, 4:]).min() > 0


def test_truncation_keeps_the_gradient_of_the_last_state_of_a_short_row():
    params, x, state = problem(bidirectional=True)

    def last(x, state):
        return jnp.sum(jax_lstm.lstm(params, x, state, lengths=np.array([2, 2, 2, 2]), truncate_every=3)[1].c)

    d_x, d_state = jax.grad(last, argnums=(0, 1))(x, state)
    assert np.abs(d_x[:, :2]).min() > 0
    assert np.abs(d_state.c).min() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_layouts(network):
    params, x, state = problem(**NETWORKS[network])
    reset = np.random.default_rng(1).random((B, T)) < 0.3
    options = {"lengths": LENGTHS, "reset": reset}
    y, last = jax_lstm.lstm(params, x, state, **options)

    major, last_major = jax_lstm.lstm(params, x.swapaxes(0, 1), state, lengths=LENGTHS, reset=reset.T, time_major=True)
    np.testing.assert_array_equal(major.swapaxes(0, 1), y)
    jax.tree.map(np.testing.assert_array_equal, last_major, last)
    states = jax_lstm.lstm_states(params, x, state, **options)
    states_major = jax_lstm.lstm_states(
        params, x.swapaxes(0, 1), state, lengths=LENGTHS, reset=reset.T, time_major=True
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.swapaxes(1, 2), b), states_major, states)

    two_axes = lambda a: jax.tree.map(lambda v: v.reshape(*v.shape[: v.ndim - 2], 2, 2, v.shape[-1]), a)
    y2, last2 = jax_lstm.lstm(
        params,
        x.reshape(2, 2, T, D),
        two_axes(state),
        lengths=LENGTHS.reshape(2, 2),
        reset=reset.reshape(2, 2, T),
    )
    np.testing.assert_allclose(y2.reshape(y.shape), y, rtol=1e-13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), last2, two_axes(last))


@pytest.mark.parametrize("network", NETWORKS)
def test_states_of_every_step_agree_with_outputs_and_last_states(network):
    params, x, state = problem(**NETWORKS[network])
    y, last = jax.device_get(jax_lstm.lstm(params, x, state))
    states = jax.device_get(jax_lstm.lstm_states(params, x, state))
    directions = 2 if NETWORKS[network].get("bidirectional") else 1
    np.testing.assert_array_equal(np.concatenate(states.h[-directions:], -1), y)
    for r in range(len(last.h)):
        end = 0 if directions == 2 and r % 2 else -1
        np.testing.assert_array_equal(states.h[r, :, end], last.h[r])
        np.testing.assert_array_equal(states.c[r, :, end], last.c[r])


def test_the_default_state_is_zero():
    params, x, state = problem(num_layers=2, bidirectional=True)
    zeros = jax.tree.map(jnp.zeros_like, state)
    jax.tree.map(np.testing.assert_array_equal, jax_lstm.lstm(params, x), jax_lstm.lstm(params, x, zeros))


def test_an_rnn_takes_the_same_options():
    params = drawn_weights(D, H, kind="rnn", num_layers=2, bidirectional=True)
    x, h = normal((B, T, D)), state_of(params, B)

    def gradients_and_outputs(function):
        loss = lambda p: (lambda outputs: (jnp.sum(outputs[0]), outputs))(function(p))
        return jax.jit(jax.grad(loss, has_aux=True))(params)

    d_params, outputs = gradients_and_outputs(lambda p: plain.plain_rnn(p, x, h, "relu", lengths=LENGTHS))
    for options in ({}, {"checkpoint_every": 4}):
        run = partial(jax_lstm.rnn, x=x, h=h, nonlinearity="relu", lengths=LENGTHS, **options)
        got, got_outputs = gradients_and_outputs(run)
        assert_close(got_outputs, outputs, rtol=1e-12, atol=1e-14)
        assert_close(got, d_params, rtol=1e-11, atol=1e-13)


def test_a_loop_of_cells_agrees_with_the_whole_sequence():
    params, x, state = problem()
    cell = {name.removesuffix("_l0"): a for name, a in params.items()}
    y, last = jax_lstm.lstm(params, x, state)
    step = jax.tree.map(lambda a: a[0], state)
    for t in range(T):
        step = jax_lstm.lstm_cell(cell, step, x[:, t])
        np.testing.assert_allclose(step.h, y[:, t], rtol=1e-13)
    np.testing.assert_allclose(step.c, last.c[0], rtol=1e-13)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_cells_agree_with_the_equations(nonlinearity):
    """convert/test_torch.py compares them with torch's cells."""
    rng = np.random.default_rng(2)
    draw = lambda *shape: jnp.array(rng.uniform(-0.5, 0.5, size=shape))
    x, h, c = (jnp.array(rng.normal(size=(B, n))) for n in (D, H, H))
    biases = {"bias_ih": draw(4 * H), "bias_hh": draw(4 * H)}
    params = {"weight_ih": draw(4 * H, D), "weight_hh": draw(4 * H, H)} | biases
    got = jax_lstm.lstm_cell(params, LSTMState(h, c), x)
    expected = plain.lstm_step(params | {"weight_hr": None}, x, h, c)
    np.testing.assert_allclose(got.h, expected[0], rtol=1e-13)
    np.testing.assert_allclose(got.c, expected[1], rtol=1e-13)
    params = {"weight_ih": draw(H, D), "weight_hh": draw(H, H)}
    got = jax_lstm.rnn_cell(params, h, x, nonlinearity=nonlinearity)
    expected = plain.rnn_step(params | {"bias_ih": None}, x, h, nonlinearity)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


def test_dropout_is_only_between_layers():
    params, x, state = problem(num_layers=2)
    one, _, _ = problem()
    key = jax.random.key(0)
    single = jax_lstm.lstm(one, x, dropout=0.9, dropout_key=key)[0]
    np.testing.assert_array_equal(single, jax_lstm.lstm(one, x)[0])
    y = jax_lstm.lstm(params, x, state, dropout=1.0, dropout_key=key)[0]
    assert np.abs(y).min() > 0
    zeros = {n: jnp.zeros_like(a) if n == "weight_ih_l1" else a for n, a in params.items()}
    np.testing.assert_allclose(y, jax_lstm.lstm(zeros, x, state)[0], rtol=1e-13)
    states = jax_lstm.lstm_states(params, x, state, dropout=0.5, dropout_key=key)
    np.testing.assert_array_equal(states.h[0], jax_lstm.lstm_states(params, x, state).h[0])


def test_dropout_keeps_the_mean():
    params, x, _ = problem(num_layers=2)
    linear = {n: 1e-4 * a if n == "weight_ih_l1" else a for n, a in params.items()}  # the second layer, nearly linear
    keys = jax.random.split(jax.random.key(1), 4000)
    mean = jnp.mean(jax.vmap(lambda k: jax_lstm.lstm(linear, x, dropout=0.3, dropout_key=k)[0])(keys), 0)
    none = {n: jnp.zeros_like(a) if n == "weight_ih_l1" else a for n, a in params.items()}
    without = jax_lstm.lstm(none, x)[0]
    effect, expected = mean - without, jax_lstm.lstm(linear, x)[0] - without
    # The mean of 4000 draws with a relative deviation below 1 is off by about 1.6 %; a missing 1/(1-p) by 30 %.
    assert np.linalg.norm(effect - expected) < 0.05 * np.linalg.norm(expected)
