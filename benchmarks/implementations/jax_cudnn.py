"""jax.experimental.rnn: cuDNN's LSTM from JAX. Batch first, float32; its weights are one flat vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.implementation import Implementation, Missing, Ready
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from jax_lstm import convert


def ready(work: Work) -> Ready:
    if jax.devices()[0].platform != "gpu":
        raise Missing("needs an NVIDIA GPU")
    if work.dtype != "float32":
        raise Missing(f"takes float32 alone, not {work.dtype}")
    if work.feature == "projection":
        raise Missing("has no projection")
    if work.feature == "lengths":
        raise Missing("leaves outputs past a row's end to cuDNN")
    return ready_jax(work, lambda weights, x: outputs(work, weights, x), convert.to_cudnn, batch_first=True)


def outputs(work: Work, weights, x):
    """y [B, T, ...] of x [B, T, D]."""
    from jax.experimental import rnn

    _, batch, inputs, hidden = work.shape
    rows = work.layers * (2 if work.bidirectional else 1)
    zero = jnp.zeros((rows, batch, hidden), x.dtype)
    lengths = jnp.full((batch,), work.shape.steps, jnp.int32)
    precision = jax.lax.Precision.HIGHEST if work.precision == "float32" else jax.lax.Precision.DEFAULT
    return rnn.lstm(
        x, zero, zero, weights, lengths, inputs, hidden, work.layers, 0.0, work.bidirectional, precision=precision
    )[0]


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("jax.experimental.rnn", "jax", "cuDNN from JAX", ready),)
