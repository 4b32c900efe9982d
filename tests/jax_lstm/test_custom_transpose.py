"""`linear`, which attaches a transpose to a linear function: every derivative is right, and the transpose is used."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_lstm._src.custom_transpose import call_with_transpose
from tests.support.arrays import assert_close


def push(a, t):
    return {"sum": jnp.sin(a) * t["u"] + t["v"], "u": 2 * t["u"]}


def pull(a, ct):
    zero = jnp.zeros_like(a)
    total, doubled = (zero if ct[name] is None else ct[name] for name in ("sum", "u"))
    return {"u": jnp.sin(a) * total + 2 * doubled, "v": total}


def test_every_derivative_agrees_with_that_of_the_function():
    a, t = jnp.arange(3.0), {"u": jnp.ones(3), "v": jnp.arange(3.0) ** 2}
    with_pull = lambda a, t: call_with_transpose(push, pull, a, t)

    def loss(function, a, t):
        out = function(a, t)
        return jnp.sum(out["sum"] ** 3) + jnp.sum(jnp.cos(out["u"]))

    for transform in (
        lambda f: f,
        lambda f: jax.grad(f, (0, 1)),
        lambda f: jax.hessian(f, (0, 1)),
        lambda f: jax.vmap(jax.grad(f, (0, 1)), (0, None)),
        lambda f: jax.grad(lambda a, t: jnp.sum(jax.vmap(f, (0, None))(a, t)), (0, 1)),
    ):
        got, expected = (jax.jit(transform(lambda a, t, f=f: loss(f, a, t))) for f in (with_pull, push))
        stacked = jnp.stack([a, a + 1]) if "vmap" in transform.__code__.co_names else a
        assert_close(got(stacked, t), expected(stacked, t))


def test_the_given_transpose_is_used():
    wrong = lambda a, ct: {"u": jnp.full_like(a, 7.0), "v": jnp.full_like(a, 7.0)}
    t = {"u": jnp.ones(3), "v": jnp.ones(3)}
    gradient = jax.grad(lambda t: jnp.sum(call_with_transpose(push, wrong, jnp.arange(3.0), t)["sum"]))(t)
    assert_close(gradient, {"u": jnp.full(3, 7.0), "v": jnp.full(3, 7.0)})
