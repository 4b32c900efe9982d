"""The JVP rule compared with JAX's own derivative of a plain loop, under every transformation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState
from tests.support.arrays import drawn_weights, normal, state_of
from tests.support.plain import plain_lstm

B, T, D, H = 3, 5, 2, 4
VARIANTS = {
    "one layer": ({}, {}),
    "stacked, both directions": ({"num_layers": 2, "bidirectional": True}, {}),
    "projection": ({"proj_size": 3, "num_layers": 2}, {}),
    "no bias": ({"bias": False}, {}),
    "lengths": ({"bidirectional": True}, {"lengths"}),
    "mask": ({"bidirectional": True}, {"mask"}),
    "reset": ({"bidirectional": True, "num_layers": 2}, {"reset"}),
    "reset to a state": ({"bidirectional": True}, {"reset", "reset_state"}),
    "truncation": ({"bidirectional": True}, {"truncate_every"}),
    "all in one layer": ({"proj_size": 3}, {"lengths", "reset", "reset_state", "truncate_every"}),
    "all together": (
        {"bidirectional": True, "num_layers": 2, "proj_size": 3},
        {"lengths", "mask", "reset", "reset_state", "truncate_every"},
    ),
}
RUNS = {
    "fast": {},
    "chunks": {"checkpoint_every": 2},
    "even chunks, unrolled": {"checkpoint_every": 1, "unroll": 2},
}


def problem(name):
    network, names = VARIANTS[name]
    params = drawn_weights(D, H, **network, seed=3)
    x, state = normal((B, T, D)), state_of(params, B)
    options = {
        "lengths": np.array([3, 0, 5]),
        "mask": np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 0, 0, 1, 1]], bool),
        "reset": np.random.default_rng(4).random((B, T)) < 0.3,
        "reset_state": lambda h, c: (jnp.sin(h), jnp.cos(c)),  # its gradient becomes a part of the gradients of h and c
        "truncate_every": 2,
    }
    return (params, x, state.h, state.c), {name: options[name] for name in sorted(names)}


def options_at(options, h, c, state):
    """Return the options with the reset state of h and c, built by ``state(h, c)``."""
    return options | {"reset_state": state(*options["reset_state"](h, c))} if "reset_state" in options else options


def ours(options, run=None):
    def f(params, x, h, c):
        given = options_at(options, h, c, LSTMState)
        y, last = jax_lstm.lstm(params, x, LSTMState(h, c), **given, **(run or {}))
        return y, last.h, last.c

    return f


def plain(options):
    return lambda *arguments: plain_all(options, *arguments)[:3]


def plain_all(options, params, x, h, c):
    return plain_lstm(params, x, h, c, **options_at(options, h, c, lambda *pair: pair))


def loss(f):
    """Return a nonlinear loss with a different weight for every entry of the outputs."""

    def scalar(*arguments):
        total = 0.0
        for n, out in enumerate(f(*arguments)):
            weight = jnp.cos(jnp.arange(out.size, dtype=out.dtype) + n).reshape(out.shape)
            total += jnp.sum(weight * out) + 0.1 * jnp.sum(out**3)
        return total

    return scalar


ALL = (0, 1, 2, 3)
IN_OTHERS = (
    "stacked, both directions",
    "lengths",
    "mask",
    "reset",
    "truncation",
)  # the combined variants have them
COMBINED = ("all in one layer", "all together")  # a mistake in one option changes these too


def some_slow(pairs, quick):
    """Return the parameters of a test. Those that are not quick are marked slow."""
    return [pytest.param(*pair, marks=[] if quick(*pair) else pytest.mark.slow) for pair in pairs]


def gradient(f):
    return jax.grad(loss(f), argnums=ALL)


def first_order(f):
    """Return gradient, value and directional derivative, in one program to save compilations."""
    return lambda *arguments: (gradient(f)(*arguments), f(*arguments), jax.jvp(f, arguments, tangents_of(arguments)))


def forward_over_reverse(f):
    return lambda *arguments: jax.jvp(gradient(f), arguments, tangents_of(arguments))[1]


def reverse_over_reverse(f):
    def along(*arguments):
        terms = zip(jax.tree.leaves(gradient(f)(*arguments)), jax.tree.leaves(tangents_of(arguments)), strict=True)
        return sum(jnp.vdot(a, b) for a, b in terms)

    return jax.grad(along, argnums=ALL)


def value(f):
    return f


def tangents_of(arguments):
    return jax.tree.map(lambda a: jnp.sin(1 + jnp.arange(a.size)).reshape(a.shape), arguments)


@functools.cache
def expected(name, derivative):
    arguments, options = problem(name)
    return jax.jit(derivative(plain(options)))(*arguments)


def check(name, run, derivative, rtol=1e-12):
    arguments, options = problem(name)
    got = jax.jit(derivative(ours(options, RUNS[run])))(*arguments)
    assert_close(got, expected(name, derivative), rtol)


def assert_close(a, b, rtol=1e-12):
    """Compare trees in float64. Rounding is four orders of magnitude below 1e-12, and a wrong term is far above it."""
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=rtol), a, b)


@pytest.mark.parametrize(
    ("name", "run"),
    some_slow(
        [(name, run) for name in VARIANTS for run in RUNS if run in ("fast", "chunks") or name == "all together"],
        quick=lambda name, run: (run == "fast" and name not in IN_OTHERS) or (run == "chunks" and name in COMBINED),
    ),
)
def test_value_gradient_and_jvp(name, run):
    check(name, run, first_order)


@pytest.mark.parametrize(
    ("name", "run"),
    some_slow(
        [(name, run) for name in ("projection", "all in one layer") for run in ("fast", "chunks")],
        quick=lambda name, run: name in COMBINED,
    ),
)
@pytest.mark.parametrize("derivative", [forward_over_reverse, reverse_over_reverse])
def test_second_derivatives(name, run, derivative):
    check(name, run, derivative, rtol=1e-11)


@pytest.mark.parametrize("name", ["one layer", "all in one layer"])
def test_jvp_of_a_single_argument(name):
    """The other tangents are symbolic zeros."""
    arguments, options = problem(name)
    for n, argument in enumerate(arguments):
        tangent = tangents_of(argument)

        def along(f, n=n, tangent=tangent):
            only = lambda a, rest: f(*rest[:n], a, *rest[n:])
            return lambda *rest: jax.jvp(lambda a: only(a, (*rest[:n], *rest[n + 1 :])), (rest[n],), (tangent,))

        got = jax.jit(along(ours(options)))(*arguments)
        assert_close(got, jax.jit(along(plain(options)))(*arguments))


def test_the_hessian_is_symmetric_and_agrees_with_the_plain_loop():
    arguments, options = problem("reset to a state")
    hessians = []
    for f in (ours(options), plain(options)):
        of_x = jax.hessian(lambda x, f=f: loss(f)(arguments[0], x, *arguments[2:]))
        hessians.append(jax.jit(of_x)(arguments[1]).reshape(B * T * D, -1))
    assert_close(hessians[0], hessians[0].T)
    assert_close(*hessians)
    assert float(jnp.abs(hessians[0]).max()) > 1e-3


@pytest.mark.parametrize("name", ["one layer", "all together"])
@pytest.mark.parametrize("derivative", [value, gradient])
def test_vmap_over_examples(name, derivative):
    (params, x, h, c), options = problem(name)
    static = {k: v for k, v in options.items() if k in ("truncate_every", "reset_state")}
    per_row = {k: v for k, v in options.items() if k not in static}

    def single(params, x, h, c, per_row):
        return derivative(ours({**static, **per_row}))(params, x, h, c)

    got = jax.jit(jax.vmap(single, in_axes=(None, 0, 1, 1, 0)))(params, x, h, c, per_row)
    row = jax.jit(single)
    each = [row(params, x[b], h[:, b], c[:, b], jax.tree.map(lambda a, b=b: a[b], per_row)) for b in range(B)]
    assert_close(got, jax.tree.map(lambda *a: jnp.stack(a), *each))


@pytest.mark.parametrize("name", ["one layer", "all together"])
def test_vmap_over_parameters(name):
    (params, *rest), options = problem(name)
    ensemble = jax.tree.map(lambda a: jnp.stack((a, 2 * a, -a)), params)
    got = jax.jit(jax.vmap(gradient(ours(options)), in_axes=(0, None, None, None)))(ensemble, *rest)
    single = jax.jit(gradient(ours(options)))
    each = [single(jax.tree.map(lambda a, n=n: a[n], ensemble), *rest) for n in range(3)]
    assert_close(got, jax.tree.map(lambda *a: jnp.stack(a), *each))


@pytest.mark.parametrize("name", ["one layer", "all together"])
def test_inside_jax_checkpoint(name):
    arguments, options = problem(name)
    got = jax.jit(gradient(jax.checkpoint(ours(options))))(*arguments)
    assert_close(got, expected(name, first_order)[0])


@pytest.mark.parametrize("name", ["projection", "all in one layer", "all together"])
def test_states_of_every_step(name):
    arguments, options = problem(name)

    def states(params, x, h, c):
        out = jax_lstm.lstm_states(params, x, LSTMState(h, c), **options_at(options, h, c, LSTMState))
        return out.h, out.c

    reference = lambda *a: plain_all(options, *a)[3:]
    got = jax.jit(lambda *a: (states(*a), gradient(states)(*a)))(*arguments)
    assert_close(got, jax.jit(lambda *a: (reference(*a), gradient(reference)(*a)))(*arguments))
