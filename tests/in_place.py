"""What the tests of cells in the place of Flax's share: inputs, comparisons, a few steps of training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

B, T, D, H = 3, 6, 4, 5
INITS = ("kernel_init", "recurrent_kernel_init", "bias_init")
ATOL = 1e-12  # the figure, in float64, on outputs and gradients of about 1


def x_of(steps: int = T) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(B, steps, D)))


def carry(seed: int = 0, dtype: Any = jnp.float64) -> tuple[jax.Array, jax.Array]:
    """Flax's (c, h), neither zero nor equal."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(B, H)), dtype) for _ in range(2))


def counting(key, shape, dtype):
    """The same for every gate, so that it tells an orientation and no draw."""
    return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)


def gradient_of(run):
    """A jitted (weights, x) -> outputs, and the gradients of weights and x for different weights of all outputs."""

    def loss(params, x):
        out = run(params, x)
        rng = np.random.default_rng(5)
        terms = [jnp.sum(a * rng.normal(size=a.shape)) for a in jax.tree.leaves(out)]
        return sum(terms), out

    @jax.jit
    def both(params, x):
        gradients, out = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
        return out, gradients

    return both


def steps_of_training(loss, weights, steps: int = 5):
    """Weights and optimizer state after some steps of clipped Adam."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.05), optax.adam(0.01))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params, x_of()), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(weights)
    for _ in range(steps):
        weights, state = step(weights, state)
    return weights, state


def assert_same(found, expected):
    """Trees of one structure and dtype, equal to 1e-12."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert a.dtype == b.dtype, where
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL, err_msg=where)


def assert_same_rounding(found, expected, exact):
    """Each array is off the exact one by no more than four times what Flax's is, whose rounding is measured here.

    The largest of some hundred rounding errors varies by chance, and ours come in another order; a factor of four
    leaves room for that and for no mistake, the least of which is off by a factor of thousands.
    """
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b, truth in zip(*map(jax.tree.leaves, (found, expected, exact)), strict=True):
        assert a.dtype == b.dtype
        own = np.abs(np.asarray(b, np.float64) - truth).max()
        assert 0 < own < 1e-5
        assert np.abs(np.asarray(a, np.float64) - truth).max() <= 4 * own
