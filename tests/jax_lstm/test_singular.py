"""The largest singular value of a linear map that is given by its products with vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_lstm._src.flow.singular import largest_singular_value

SPECTRA = {
    "zero": [0.0],
    "equal": [3.0, 3.0, 1.0],
    "nearly equal": [1.0, 1 - 1e-9, 0.5, 1e-3],
    "crowded": np.linspace(1, 0.99, 40),
    "tiny": [1e-300, 1e-305],
}


@jax.jit
def largest(a):
    start = jax.random.normal(jax.random.key(0), a.shape[:1], a.dtype)
    return largest_singular_value(lambda v: a @ v, lambda u: u @ a, start)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_largest_singular_value_for_any_spectrum(name):
    values = np.zeros(40)
    values[: len(SPECTRA[name])] = SPECTRA[name]
    u, v = (np.linalg.qr(np.random.default_rng(k).normal(size=(40, 40)))[0] for k in (0, 1))
    a = u * values @ v
    got, right = largest(a)
    size = values[0] or 1.0
    np.testing.assert_allclose(got / size, values[0] / size, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(a @ right / size), values[0] / size, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_singular_value_of_low_rank(dtype):
    """Rows of zeros, as with relu: the Krylov space is exhausted before the last step of the iteration."""
    w = np.random.default_rng(16).normal(size=(16, 16))
    active = np.random.default_rng(0).integers(0, 2, size=(20, 16))
    maps = (active[:, :, None] * w).astype(dtype)
    got = jax.jit(jax.vmap(lambda a: largest(a)[0]))(maps)
    expected = np.linalg.norm(maps.astype("float64"), 2, axis=(1, 2))
    np.testing.assert_allclose(got, expected, rtol=16 * np.finfo(dtype).eps)


def test_the_largest_singular_value_of_one_number():
    np.testing.assert_allclose(largest(jnp.array([[-0.3]]))[0], 0.3, rtol=1e-15)
