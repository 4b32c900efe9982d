"""Other JAX libraries, by their adapters in `crosscheck.libraries`: one layer from the library's own zero state."""

from __future__ import annotations

from functools import partial

import jax

from benchmarks.implementation import Ready, TimedImplementation
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from crosscheck.libraries import Adapter, NotSupported, load_library

FLAX_LENGTHS = "flax's seq_lengths leave outputs past a row's end that are not zero, and torch has zeros there"


def _outputs_of(adapter: Adapter, weights: object, x: jax.Array) -> jax.Array:
    return adapter.run(weights, x, None, None)[0]


def _ready(file: str, loop: str, lengths: str, work: Work) -> Ready:
    """Make the library of a file in `crosscheck.libraries` ready. ``loop`` names its loop over time."""
    lacking = {
        "lengths": lengths,
        "projection": f"{loop} has no projection",
        "bidirectional": f"{loop} runs one direction; two of them are left to its user",
        "layers": f"{loop} runs one layer; a stack is left to its user",
    }
    if work.feature in lacking:
        raise NotSupported(lacking[work.feature])
    adapter = load_library(file).adapter(work.case)
    return ready_jax(work, partial(_outputs_of, adapter), adapter.write)


def _ready_cudnn(work: Work) -> Ready:
    if jax.devices()[0].platform != "gpu":
        raise NotSupported("needs an NVIDIA GPU")
    if work.dtype != "float32":
        raise NotSupported(f"takes only float32, not {work.dtype}")
    if work.feature == "projection":
        raise NotSupported("has no projection")
    if work.feature == "lengths":
        raise NotSupported("leaves outputs past a row's end to cuDNN")
    precision = jax.lax.Precision.HIGHEST if work.precision == "float32" else jax.lax.Precision.DEFAULT
    adapter = load_library("jax_cudnn").adapter(work.case, precision)
    return ready_jax(work, partial(_outputs_of, adapter), adapter.write, batch_first=True)


def _library(
    name: str, package: str, description: str, file: str, loop: str, lengths: str = "it takes no lengths"
) -> TimedImplementation:
    return TimedImplementation(name, package, description, partial(_ready, file, loop, lengths))


IMPLEMENTATIONS = (
    _library(
        "flax.linen",
        "flax",
        "flax.linen.RNN over OptimizedLSTMCell",
        "flax_linen",
        "flax.linen.RNN",
        FLAX_LENGTHS,
    ),
    _library("flax.nnx", "flax", "flax.nnx.RNN over OptimizedLSTMCell", "flax_nnx", "flax.nnx.RNN", FLAX_LENGTHS),
    _library("haiku", "dm-haiku", "haiku.dynamic_unroll over hk.DeepRNN of hk.LSTM", "haiku", "hk.dynamic_unroll"),
    _library("equinox", "equinox", "equinox.nn.LSTMCell under scan, vmap over the batch", "equinox", "a scan"),
    TimedImplementation("jax.experimental.rnn", "jax", "cuDNN from JAX", _ready_cudnn),
)
