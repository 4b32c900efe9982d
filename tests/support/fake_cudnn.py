"""A stand-in for cuDNN's LSTM call that runs on a CPU, and the small networks that the tests of this backend run.

It takes the same arguments, and JAX's own reference of the call computes the numbers. It returns NaN for memory that
cuDNN leaves unwritten, which is the input's gradient in the padding. If a length is below 1 or over T, cuDNN fails, and
the stand-in returns only NaN.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from jax.interpreters import mlir
from jaxlib import gpu_rnn

from jax_lstm._src import backends
from tests.support.arrays import drawn_weights, normal, state_of

B, T, D, H = 4, 6, 3, 5
LENGTHS = np.array([3, 6, 0, 1])
NETWORKS = {
    "one": {},
    "reverse too": {"bidirectional": True},
    "stacked, both directions": {"num_layers": 2, "bidirectional": True},
    "no bias": {"num_layers": 2, "bias": False},
}


def install(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace cuDNN by the stand-in. Return a list that gets the arguments of each forward call."""
    calls = []

    def forward(x, h, c, w, lengths, **sizes):
        calls.append(sizes | {"shape": x.shape})
        assert {a.dtype for a in (x, h, c, w)} == {jnp.dtype("float32")}
        assert lengths.dtype == jnp.int32
        outputs = _reference(sizes, lengths, x, h, c, w)
        return outputs, (x, h, c, w, lengths, outputs[0], jnp.zeros(1))

    def backward(input_size, hidden_size, num_layers, dropout, bidirectional, precision, residuals, cotangents):
        x, h, c, w, lengths, _, _ = residuals
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        run = partial(_reference, sizes | {"dropout": dropout, "bidirectional": bidirectional}, lengths)
        d_x, *rest = jax.vjp(run, x, h, c, w)[1](cotangents)
        valid = jnp.arange(x.shape[1])[None, :, None] < lengths[:, None, None]
        return jnp.where(valid, d_x, jnp.nan), *rest, jnp.zeros_like(lengths)

    monkeypatch.setattr(rnn, "lstm_fwd", forward)
    monkeypatch.setattr(rnn, "lstm_bwd", backward)
    monkeypatch.setattr(backends, "has_cuda", lambda: True)
    monkeypatch.setattr(backends, "platforms_of", lambda x: {"gpu"})
    jax.clear_caches()  # otherwise programs that were traced before would call cuDNN
    return calls


def _reference(
    sizes: dict[str, Any], lengths: jax.Array, x: jax.Array, h: jax.Array, c: jax.Array, w: jax.Array
) -> Any:
    names = ("input_size", "hidden_size", "num_layers", "dropout", "bidirectional")
    network = {name: sizes[name] for name in names if name != "dropout"}
    weights = rnn.unpack_lstm_weights(w, **network)
    outputs = rnn.lstm_ref(x, h, c, *weights, lengths, *(sizes[name] for name in names))
    wrong = jnp.any((lengths < 1) | (lengths > x.shape[1]))
    return jax.tree.map(lambda a: jnp.where(wrong, jnp.nan, a), outputs)


class _Library:
    """The part of jaxlib's CUDA plugin that lowering needs."""

    @staticmethod
    def build_rnn_descriptor(*sizes):
        return ",".join(map(str, sizes)).encode()


def install_lowering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let JAX's real primitives lower for CUDA without CUDA. Only the sizes that cuDNN would return are made up."""
    jax.clear_caches()
    monkeypatch.setattr(backends, "has_cuda", lambda: True)
    monkeypatch.setattr(backends, "platforms_of", lambda x: {"gpu"})
    monkeypatch.setattr(gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", lambda *sizes: (64, 32), raising=False)
    for primitive, lowering in ((rnn.rnn_fwd_p, gpu_rnn._rnn_fwd_lowering), (rnn.rnn_bwd_p, gpu_rnn._rnn_bwd_lowering)):
        mlir.register_lowering(primitive, partial(lowering, _Library, "cu"), platform="cuda")


def problem(batch: tuple[int, ...] = (B,), dtype: Any = jnp.float32, **network: Any) -> tuple[dict, np.ndarray, Any]:
    """Return parameters, x and a state."""
    params = drawn_weights(D, H, **network, dtype=dtype, seed=7)
    return params, normal((*batch, T, D), dtype), state_of(params, batch, dtype=dtype)
