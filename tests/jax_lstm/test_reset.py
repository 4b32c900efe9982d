"""``reset`` and ``reset_state``: episodes inside a batch, as in reinforcement learning."""

from __future__ import annotations

import functools
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, convert
from tests.support.arrays import assert_close, drawn_weights, normal, state_of
from tests.support.requirements import need

B, T, D, H = 3, 6, 4, 5
X = normal((B, T, D))
RESET = np.array([[0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0]], bool)
PARAMS = drawn_weights(D, H, num_layers=2)
CARRY, ORIGIN = state_of(PARAMS, B, seed=1), state_of(PARAMS, B, seed=2)


def by_hand(params, x, carry, origin):
    """Run step by step. The rows that begin an episode start from ``origin``."""
    ys = []
    for t in range(T):
        begins = RESET[:, t][None, :, None]
        carry = jax.tree.map(lambda a, b, begins=begins: jnp.where(begins, a, b), origin, carry)
        y, carry = jax_lstm.lstm_step(params, x[:, t], carry)
        ys.append(y)
    return jnp.stack(ys, axis=1), carry


def loss(y, last):
    return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(jnp.cos(last.c))


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (True, {}),
        (False, {}),
        (True, {"checkpoint_every": 2}),
        *(
            pytest.param(given, options, marks=pytest.mark.slow)
            for given, options in ((False, {"checkpoint_every": 2}),)
        ),
    ],
)
def test_a_reset_agrees_with_a_loop_of_steps(given, options):
    """An episode starts from zeros or from the reset state. Values and gradients are compared."""

    def run(params, x, carry, origin):
        return jax_lstm.lstm(params, x, carry, reset=RESET, reset_state=origin if given else None, **options)

    got = outputs_and_gradients(run)
    assert_close(got, expected_by_hand(given))
    assert (np.abs(got[1][3].c).min() > 0) == given


def outputs_and_gradients(run):
    """Return the outputs, and the gradients of all four arguments."""
    gradients = lambda *arguments: jax.grad(lambda *a: loss(*run(*a)), argnums=(0, 1, 2, 3))(*arguments)
    return jax.jit(lambda *arguments: (run(*arguments), gradients(*arguments)))(PARAMS, X, CARRY, ORIGIN)


@functools.cache
def expected_by_hand(given):
    start = lambda origin: origin if given else jax.tree.map(jnp.zeros_like, origin)
    return outputs_and_gradients(lambda params, x, carry, origin: by_hand(params, x, carry, start(origin)))


@functools.cache
def haiku_and_ours():
    """Return Haiku's network, and jitted functions for value and gradient of Haiku's network and of lstm."""
    hk = need("haiku")
    net = hk.without_apply_rng(
        hk.transform(lambda x, r, h, c: hk.dynamic_unroll(hk.ResetCore(hk.LSTM(H)), (x, r), hk.LSTMState(h, c)))
    )

    def haiku(weights, x, h, c, done):
        y, last = net.apply(weights, x, done, h, c)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(last.cell)), y

    def ours(weights, x, h, c, done):
        state = LSTMState(h=h[None], c=c[None])
        y, last = jax_lstm.lstm(convert.from_haiku(weights), x, state, reset=done, time_major=True)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(last.c)), y

    value_and_grad = lambda f: jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2, 3), has_aux=True))
    return net, value_and_grad(haiku), value_and_grad(ours)


@pytest.mark.parametrize("seed", range(3))
def test_a_reset_agrees_with_haikus_reset_core(seed):
    """Value and gradient are compared in float64."""
    net, haiku, ours = haiku_and_ours()
    rng = np.random.default_rng(seed)
    x, done = rng.normal(size=(T, B, D)), rng.random((T, B)) < 0.4
    h, c = rng.normal(size=(2, B, H))
    weights = jax.tree.map(lambda a: a.astype(jnp.float64), net.init(jax.random.key(seed), x, done, h, c))
    assert_close(ours(weights, x, h, c, done), haiku(weights, x, h, c, done))


def test_both_directions_start_each_episode_from_the_reset_state():
    params = drawn_weights(D, H, bidirectional=True)
    carry, origin = state_of(params, B, seed=1), state_of(params, B, seed=2)
    y, _ = jax_lstm.lstm(params, X, carry, reset=RESET, reset_state=origin)
    for b in range(B):
        bounds = [0, *(t for t in range(1, T) if RESET[b, t]), T]
        for start, stop in pairwise(bounds):
            first = jax.tree.map(lambda a, b=b: a[:, b : b + 1], origin)
            first_run = np.array([start == 0 and not RESET[b, 0], stop == T])[:, None, None]  # in both directions
            first = jax.tree.map(lambda a, o, b=b, given=first_run: np.where(given, o[:, b : b + 1], a), first, carry)
            single, _ = jax_lstm.lstm(params, X[b : b + 1, start:stop], first)
            np.testing.assert_allclose(y[b : b + 1, start:stop], single, rtol=1e-12, atol=1e-14)


def test_one_reset_state_for_all_rows():
    one_row = jax.tree.map(lambda a: a[:, :1], ORIGIN)
    spread = jax.tree.map(lambda a: jnp.broadcast_to(a[:, :1], a.shape), ORIGIN)
    run = lambda origin: jax_lstm.lstm(PARAMS, X, CARRY, reset=RESET, reset_state=origin)
    jax.tree.map(np.testing.assert_array_equal, run(one_row), run(spread))


def test_a_reset_of_an_rnn_agrees_with_a_loop_of_steps():
    params = drawn_weights(D, H, kind="rnn")
    h, origin = state_of(params, B, seed=1), state_of(params, B, seed=2)
    cell = {name.removesuffix("_l0"): a for name, a in params.items()}
    for given in (None, origin):
        y, last = jax_lstm.rnn(params, X, h, reset=RESET, reset_state=given)
        carry = h[0]
        for t in range(T):
            begins = RESET[:, t, None]
            carry = jax_lstm.rnn_cell(cell, jnp.where(begins, 0.0 if given is None else given[0], carry), X[:, t])
            np.testing.assert_allclose(y[:, t], carry, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last[0], carry, rtol=1e-12, atol=1e-14)
