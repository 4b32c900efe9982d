"""flax.nnx.RNN over OptimizedLSTMCell. Fused kernels [in, 4H]; the one bias lies with the recurrent one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.implementation import Implementation, Ready, only_plain
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from jax_lstm import convert

REASONS = {
    "lengths": "flax's seq_lengths leave outputs past a row's end as they come, where torch has zeros",
    "projection": "flax has no LSTM cell with a projection",
    "bidirectional": "flax.nnx.RNN runs one direction; two of them are left to their user",
    "layers": "flax.nnx.RNN is one layer; stacking is left to its user",
}


def ready(work: Work) -> Ready:
    only_plain(work, REASONS)
    from flax import nnx

    _, batch, inputs, hidden = work.shape
    kind = jnp.dtype(work.dtype)
    cell = nnx.OptimizedLSTMCell(inputs, hidden, dtype=kind, rngs=nnx.Rngs(0))  # drawn in float32, then replaced
    graph, *states = nnx.split(nnx.RNN(cell, time_major=True), nnx.Param, ...)
    params, rest = states

    def apply(weights, x):
        state = jax.tree.map(lambda leaf: leaf, params)  # a copy, to be filled
        nnx.replace_by_pure_dict(state, weights)
        zero = jnp.zeros((batch, hidden), x.dtype)  # given, so that no random key is drawn for zeros
        return nnx.merge(graph, state, rest)(x, initial_carry=(zero, zero))

    return ready_jax(work, apply, convert.to_nnx)


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("flax.nnx", "flax", "flax.nnx.RNN over OptimizedLSTMCell", ready),)
