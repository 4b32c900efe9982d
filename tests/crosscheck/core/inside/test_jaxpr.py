"""A jaxpr that is evaluated equation by equation gives JAX's results, including loops, branches and calls."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosscheck.core.inside.jaxpr import equations, evaluate, location
from crosscheck.core.inside.narrow import Lift, narrow_types
from crosscheck.core.inside.port_noise import Noise, places_of


class Plain:
    def constant(self, value):
        return np.asarray(value)

    def equation(self, eqn, values):
        from crosscheck.core.inside.jaxpr import bind

        return bind(eqn, values)

    def call(self, name, results):
        return results


def scanned(x):
    return jax.lax.scan(lambda c, a: (jnp.tanh(c + a), c * a), x[0], x, reverse=True)


def looped(x):
    return jax.lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] * 1.1 + x), (0, x))[1]


def branched(x):
    return jax.lax.cond(x.sum() > 0, lambda a: a + 1, lambda a: a * 2, x), jax.lax.switch(
        2, [jnp.sin, jnp.cos, jnp.exp], x
    )


def called(x):
    return jax.checkpoint(jax.jit(lambda a: jax.nn.silu(a) + jax.nn.relu(a)))(x)


@jax.custom_vjp
def halved(x):
    return x * 2


halved.defvjp(lambda x: (x * 2, None), lambda residual, g: (g / 2,))

PROGRAMS = [scanned, looped, branched, called, halved, lambda x: jnp.sort(x) @ x.T, lambda x: jnp.fft.rfft(x).real]


@pytest.mark.parametrize("fn", PROGRAMS)
def test_an_evaluation_gives_what_jax_gives(fn):
    x = np.random.default_rng(0).normal(size=(4, 4))
    program = jax.make_jaxpr(fn)(x)
    for got, expected in zip(evaluate(program, [x], Plain()), jax.tree.leaves(fn(x)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("fn", [scanned, branched, called, halved])
def test_gradients_with_no_noise_are_the_gradients_and_with_noise_they_move_by_about_its_size(fn):
    x = np.random.default_rng(0).normal(size=(4, 4))

    def pull(x):
        outputs, pullback = jax.vjp(lambda x: jax.tree.leaves(fn(x)), x)
        return pullback([jnp.cos(o) for o in outputs])[0]

    program = jax.make_jaxpr(pull)(x)
    places = places_of(program)
    exact, noisy = (
        np.asarray(evaluate(program, [x], Noise(places, np.full(len(places), size), np.uint64(3)))[0])
        for size in (0.0, 1e-9)
    )
    np.testing.assert_allclose(exact, pull(x), rtol=1e-13, atol=1e-13)
    assert 1e-10 < np.max(np.abs(noisy - exact)) < 1e-7


def test_a_narrow_cast_is_found_with_its_line_and_lifted():
    def leaks(x):
        return (x.astype(jnp.float32) * 0.1).astype(x.dtype)

    x = np.random.default_rng(0).normal(size=(4, 4))
    program = jax.make_jaxpr(leaks)(x)
    (place,) = narrow_types(program)
    assert (place.dtype, place.excuse) == ("float32", "")
    assert place.where.startswith("test_jaxpr.py:")
    assert place.where.endswith(" (leaks)")
    (lifted,) = evaluate(program, [x], Lift())
    np.testing.assert_array_equal(lifted, x * 0.1)  # the literal 0.1 is read from its shortest decimal
    assert np.max(np.abs(leaks(x) - x * 0.1)) > 1e-10


def test_a_float32_program_of_a_loop_is_lifted_as_a_whole():
    def fixed(x):
        return jax.lax.scan(lambda c, a: (jnp.tanh(c + a), c), jnp.zeros(4, jnp.float32), x)

    x = np.random.default_rng(0).normal(size=(6, 4))
    program = jax.make_jaxpr(fixed)(x.astype(np.float32))
    carry, _ = evaluate(program, [x], Lift())
    expected = np.zeros(4)
    for row in x:
        expected = np.tanh(expected + row)
    np.testing.assert_allclose(carry, expected, rtol=1e-14)


def test_equations_inside_of_loops_are_found():
    names = [eqn.primitive.name for eqn in equations(jax.make_jaxpr(scanned)(np.ones((3, 3))).jaxpr)]
    assert {"scan", "tanh", "mul"} <= set(names)
    places = [location(eqn) for eqn in equations(jax.make_jaxpr(scanned)(np.ones((3, 3))).jaxpr)]
    assert all(place.startswith("test_jaxpr.py:") for place in places)


def test_an_equation_without_a_place():
    program = jax.make_jaxpr(jnp.var)(jnp.ones((4, 3), jnp.bfloat16))
    places = [location(eqn) for eqn in equations(program.jaxpr)]
    assert "an unknown place" in places
    assert all(places)
