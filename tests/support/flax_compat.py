"""Inputs, comparisons and training steps for the tests that replace Flax's cells by ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.support.arrays import normal

B, T, D, H = 3, 6, 4, 5
INITS = ("kernel_init", "recurrent_kernel_init", "bias_init")
ATOL = 1e-12  # the requirement, in float64, for outputs and gradients of about 1


def x_of(steps: int = T) -> np.ndarray:
    """Return the inputs `[B, steps, D]`."""
    return normal((B, steps, D), seed=1)


def carry(seed: int = 0, dtype: Any = jnp.float64) -> tuple[jax.Array, jax.Array]:
    """Return a carry of Flax's cells, (c, h): neither zero nor equal."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(B, H)), dtype) for _ in range(2))


def counting(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Initialize with 0, 1, 2, ..., the same for every gate. The entries show the orientation of the kernel."""
    return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)


def gradient_of(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return a jitted (weights, x) -> outputs, and the gradients of weights and x of a weighted sum of all outputs."""

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


def steps_of_training(loss: Callable[[Any, Any], jax.Array], weights: Any, steps: int = 5) -> tuple[Any, Any]:
    """Return weights and optimizer state after some steps of clipped Adam."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.05), optax.adam(0.01))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params, x_of()), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(weights)
    for _ in range(steps):
        weights, state = step(weights, state)
    return weights, state


def assert_same(got: Any, expected: Any) -> None:
    """Check that two trees have the same structure and dtypes, and numbers that agree to 1e-12."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert a.dtype == b.dtype, where
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL, err_msg=where)


DRAWS = 64  # of weights, inputs and states
ROUNDING = 1.5  # the most that rounding_ratios may give; its docstring says why


def stacked_draws(like: Any, seed: int = 0) -> Any:
    """Draw DRAWS trees with the shapes and dtypes of ``like``, stacked along a new first axis."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=(DRAWS, *a.shape)), a.dtype), like)


def rounding_ratios(got: Any, expected: Any, exact: Any) -> list[float]:
    """Return the root mean square error of our cell divided by that of Flax's cell, one ratio per array.

    The largest error of a single draw varies at random: in 640 draws it was between 0.2 and 8.5 times Flax's, since
    both sum in an order that depends on the processor. The root mean square over 64 draws varies much less. Ten groups
    of 64 draws under each of three instruction sets gave ratios from 0.90 to 1.12, with a standard deviation of at most
    0.05. So the limit of 1.5 is ten deviations away. `test_the_spread_of_rounding` in flax_compat/test_linen.py
    measures the spread again. A mistake exceeds the limit: the ratio is 2.3 or more if a recurrent product that Flax
    computes in float64 is computed in float32, and thousands if it is computed in bfloat16.
    """
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    ratios = []
    for a, b, truth in zip(*map(jax.tree.leaves, (got, expected, exact)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        our_error, flax_error = (np.sqrt(np.mean((np.asarray(v, np.float64) - truth) ** 2)) for v in (a, b))
        assert 1e-9 < flax_error < 1e-6  # around 6e-8, the unit roundoff of float32
        ratios.append(float(our_error / flax_error))
    return ratios


def widened(tree: Any) -> Any:
    """Return the same numbers in float64."""
    return jax.tree.map(lambda a: a.astype(jnp.float64), tree)
