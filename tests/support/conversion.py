"""The comparisons for the tests of converters. Correct converters and deliberate mistakes run the same comparisons.

All weights, states and biases are different and not zero. D differs from H if shapes may show a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState
from jax_lstm._src.network import Network
from tests.support.libraries import Built, Library, inputs

KINDS = [np.dtype(kind) for kind in (np.float32, np.float64, ml_dtypes.bfloat16)]
ATOL = 1e-12  # in float64, on outputs of about 0.5


def drawn(like: Any) -> Any:
    """Return a tree of these shapes in float64. No two entries are equal."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape)), like)


def our_params(network: Network) -> dict[str, np.ndarray]:
    """Return jax_lstm's weights as float64 NumPy arrays. Both biases are different and not zero."""
    rng = np.random.default_rng(2)
    return {name: rng.normal(scale=0.5, size=shape) for name, shape in network.shapes().items()}


def one_bias(params: dict[str, Any]) -> dict[str, Any]:
    """Return the same weights with a zero bias_hh, which every library can represent."""
    return {name: np.zeros_like(a) if name.startswith("bias_hh") else a for name, a in params.items()}


@jax.jit
def ours(params, x, h0, c0):
    y, last = jax_lstm.lstm(params, x, LSTMState(h=h0, c=c0))
    return y, last.h, last.c


def assert_reads(library: Library, network: Network):
    """Check that jax_lstm on what `from_x` returns agrees with the library's own forward on its weights."""
    library.need()
    built = build(library, network)
    weights, (x, h0, c0) = drawn(built.like), inputs(network)
    assert_same(ours(library.read_for(network)(weights), x, h0, c0), built.run(weights, x, h0, c0))


def assert_writes(library: Library, network: Network):
    """Check that the library's own forward on what `to_x` returns agrees with jax_lstm on its weights."""
    library.need()
    built = build(library, network)
    params, (x, h0, c0) = our_params(network), inputs(network)
    assert_same(built.run(library.write(params), x, h0, c0), ours(params, x, h0, c0))


def assert_same(found, expected):
    for name, a, b in zip(("y", "h_n", "c_n"), found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL, err_msg=name)


def build(library: Library, network: Network) -> Built:
    """Return the library's forward. It is cached across converters, so a deliberate mistake compiles nothing again."""
    return _built(library.build, network)


@lru_cache
def _built(how: Callable[[Network], Built], network: Network) -> Built:
    return how(network)


def any_bits(network: Network, kind: np.dtype, number: int) -> dict[str, np.ndarray]:
    """Return weights of all magnitudes that the dtype has, with subnormal numbers and both zeros."""
    rng = np.random.default_rng(number)
    info = ml_dtypes.finfo(kind)
    powers = (np.log2(float(info.smallest_subnormal)), np.log2(float(info.max)) - 1)
    special = np.array([-0.0, 0.0, info.smallest_subnormal, -info.smallest_normal, info.max], kind)

    def array(shape):
        drawn = (rng.choice([-1, 1], shape) * np.exp2(rng.uniform(*powers, shape))).astype(kind)
        return np.where(rng.random(shape) < 0.2, rng.choice(special, shape), drawn).astype(kind)

    return {name: array(shape) for name, shape in network.shapes().items()}


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for path, a in jax.tree_util.tree_leaves_with_path(expected):
        b = np.asarray(dict(jax.tree_util.tree_leaves_with_path(found))[path])
        a = np.asarray(a)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), jax.tree_util.keystr(path)


def assert_whole_or_nothing(write: Callable[[], object], file: Path, monkeypatch: pytest.MonkeyPatch):
    """Check that ``write`` changes neither ``file`` nor its folder if the disk becomes full."""

    def half(path, data):
        with path.open("wb") as opened:
            opened.write(data[:10])
        raise OSError("no space left")

    before = file.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        write()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


def assert_round_trip(library: Library, network: Network, kind: np.dtype, number: int):
    """Check that both round trips are exact, beginning with ours. The bias is one that the library can have."""
    params = any_bits(network, kind, number)
    if not library.two_biases:
        params = one_bias(params)
    read = library.read_for(network)
    if library.name == "torch" and kind == ml_dtypes.bfloat16:  # to_torch says that it widens this dtype
        read = partial(read, dtype=kind)
    back = read(library.write(params))
    assert_same_bits(back, params)
    assert_same_bits(library.write(back), library.write(params))
    assert all(isinstance(a, jax.Array) for a in back.values())
