"""flax.linen.RNN over OptimizedLSTMCell. Separate kernels a gate; the one bias lies with the recurrent ones."""

from __future__ import annotations

import jax.numpy as jnp

from benchmarks.implementation import Implementation, Ready, only_plain
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from jax_lstm import convert

REASONS = {
    "lengths": "flax's seq_lengths leave outputs past a row's end as they come, where torch has zeros",
    "projection": "flax has no LSTM cell with a projection",
    "bidirectional": "flax.linen.RNN runs one direction; two of them are left to their user",
    "layers": "flax.linen.RNN is one layer; stacking is left to its user",
}


def ready(work: Work) -> Ready:
    only_plain(work, REASONS)
    from flax import linen

    kind = jnp.dtype(work.dtype)
    cell = linen.OptimizedLSTMCell(work.shape.hidden, dtype=kind, param_dtype=kind)
    rnn = linen.RNN(cell, time_major=True)
    return ready_jax(work, lambda weights, x: rnn.apply({"params": weights}, x), convert.to_flax)


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("flax.linen", "flax", "flax.linen.RNN over OptimizedLSTMCell", ready),)
