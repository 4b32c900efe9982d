"""``reset`` and ``reset_state``: episodes inside a batch, as reinforcement learning hands them over."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, convert
from tests.support.arrays import drawn_weights, normal, state_of
from tests.support.requirements import need

B, T, D, H = 3, 6, 4, 5
X = normal((B, T, D))
RESET = np.array([[0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0]], bool)
PARAMS = drawn_weights(D, H, num_layers=2)
CARRY, ORIGIN = state_of(PARAMS, B, seed=1), state_of(PARAMS, B, seed=2)


def close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), got, expected)


def by_hand(params, x, carry, origin):
    """One step at a time; the rows that begin an episode start from ``origin``."""
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
            for given, options in (
                (True, {"residuals": "lean"}),
                (False, {"residuals": "lean"}),
                (False, {"checkpoint_every": 2}),
            )
        ),
    ],
)
def test_stepping_by_hand(given, options):
    """The carry of the last chunk comes in, and an episode starts from zeros or from the reset state."""

    def ours(params, x, carry, origin):
        return jax_lstm.lstm(params, x, carry, reset=RESET, reset_state=origin if given else None, **options)

    def theirs(params, x, carry, origin):
        return by_hand(params, x, carry, origin if given else jax.tree.map(jnp.zeros_like, origin))

    arguments = PARAMS, X, CARRY, ORIGIN
    every = (0, 1, 2, 3)
    run = lambda f: jax.jit(lambda *a: (f(*a), jax.grad(lambda *b: loss(*f(*b)), argnums=every)(*a)))(*arguments)
    got, expected = run(ours), run(theirs)
    close(got, expected)
    assert (np.abs(got[1][3].c).min() > 0) == given


@pytest.mark.parametrize("seed", range(3))
def test_haikus_reset_core(seed):
    """Value and gradient, in float64, with the carry of the chunk before."""
    hk = need("haiku")
    rng = np.random.default_rng(seed)
    x, done = rng.normal(size=(T, B, D)), rng.random((T, B)) < 0.4
    h, c = rng.normal(size=(2, B, H))
    net = hk.without_apply_rng(
        hk.transform(lambda x, r, h, c: hk.dynamic_unroll(hk.ResetCore(hk.LSTM(H)), (x, r), hk.LSTMState(h, c)))
    )
    weights = jax.tree.map(lambda a: a.astype(jnp.float64), net.init(jax.random.key(seed), x, done, h, c))

    def theirs(weights, x, h, c):
        y, last = net.apply(weights, x, done, h, c)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(last.cell)), y

    def ours(weights, x, h, c):
        state = LSTMState(h=h[None], c=c[None])
        y, last = jax_lstm.lstm(convert.from_haiku(weights), x, state, reset=done, time_major=True)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(last.c)), y

    run = lambda f: jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2, 3), has_aux=True))(weights, x, h, c)
    close(run(ours), run(theirs))


def test_both_directions_run_each_episode_from_the_reset_state():
    params = drawn_weights(D, H, bidirectional=True)
    carry, origin = state_of(params, B, seed=1), state_of(params, B, seed=2)
    y, _ = jax_lstm.lstm(params, X, carry, reset=RESET, reset_state=origin)
    for b in range(B):
        bounds = [0, *(t for t in range(1, T) if RESET[b, t]), T]
        for start, stop in pairwise(bounds):
            first = jax.tree.map(lambda a, b=b: a[:, b : b + 1], origin)
            given = np.array([start == 0 and not RESET[b, 0], stop == T])[:, None, None]  # forward, and backward
            first = jax.tree.map(lambda a, o, b=b, given=given: np.where(given, o[:, b : b + 1], a), first, carry)
            alone, _ = jax_lstm.lstm(params, X[b : b + 1, start:stop], first)
            np.testing.assert_allclose(y[b : b + 1, start:stop], alone, rtol=1e-12, atol=1e-14)


def test_one_reset_state_for_all_rows():
    one = jax.tree.map(lambda a: a[:, :1], ORIGIN)
    spread = jax.tree.map(lambda a: jnp.broadcast_to(a[:, :1], a.shape), ORIGIN)
    run = lambda origin: jax_lstm.lstm(PARAMS, X, CARRY, reset=RESET, reset_state=origin)
    jax.tree.map(np.testing.assert_array_equal, run(one), run(spread))


def test_an_rnn():
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
