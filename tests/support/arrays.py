"""NumPy arrays for tests: drawn, compared, and read from files.

They are not JAX arrays. JAX compiles a program per shape to draw an array, and one more to index it. That takes longer
than most tests that need the numbers.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import jax
import numpy as np

import jax_lstm
from jax_lstm._src.network import Network


def normal(shape: tuple[int, ...], dtype: Any = np.float64, *, seed: int = 0) -> np.ndarray:
    """Draw standard normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def drawn_like(like: Any, *, seed: int = 0, bound: float = 1.0) -> Any:
    """Draw a tree of arrays with the shapes and dtypes of ``like``, uniform between ``-bound`` and ``bound``."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.uniform(-bound, bound, a.shape).astype(a.dtype), like)


def drawn_weights(
    input_size: int, hidden_size: int, *, kind: str = "lstm", dtype: Any = np.float64, seed: int = 0, **network: Any
) -> dict[str, np.ndarray]:
    """Draw the weights of an LSTM, or of an "rnn", from the distribution of torch's initial weights."""
    shapes = Network(kind, input_size, hidden_size, **network).shapes()
    rng, bound = np.random.default_rng(seed), hidden_size**-0.5
    return {name: rng.uniform(-bound, bound, shape).astype(dtype) for name, shape in shapes.items()}


def state_of(params: dict[str, Any], batch: int | tuple[int, ...], *, seed: int = 1, dtype: Any = None) -> Any:
    """Draw a state of every layer and direction, uniform between -1 and 1."""
    return drawn_like(jax.eval_shape(lambda: jax_lstm.zero_state(params, batch, dtype)), seed=seed)


def assert_close(got: Any, expected: Any, rtol: float = 1e-12, atol: float = 1e-13) -> None:
    """Compare two trees of arrays. The limits are for float64: a dozen steps in another order of summation."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), got, expected)


def assert_close_float32(got: Any, expected: Any, rtol: float = 3e-5) -> None:
    """Compare trees of float32. Another order of sums changes about 1e-6 of the largest entry; a wrong term, 1e-2."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.max(np.abs(b), initial=1e-3))),
        got,
        expected,
    )


def read_npz(file: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Return every array of an archive by name, and close the file, which np.load leaves open."""
    with np.load(file) as archive:
        return dict(archive)
