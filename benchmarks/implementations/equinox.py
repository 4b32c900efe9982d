"""equinox.nn.LSTMCell under jax.lax.scan, jax.vmap over the batch: how its documentation has one write an RNN."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.implementation import Implementation, Missing, Ready, only_plain
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from jax_lstm import convert

REASONS = dict.fromkeys(
    ("lengths", "projection", "bidirectional", "layers"), "equinox has a cell of one step; the rest is left to its user"
)


def ready(work: Work) -> Ready:
    only_plain(work, REASONS)
    try:
        import equinox as eqx
    except ImportError:
        raise Missing("equinox is not installed") from None
    _, _, inputs, hidden = work.shape
    bare = eqx.filter_eval_shape(eqx.nn.LSTMCell, inputs, hidden, key=jax.random.key(0))

    def apply(weights, x):
        cell = eqx.tree_at(lambda c: [getattr(c, name) for name in weights], bare, list(weights.values()))

        def step(state, x_t):
            state = cell(x_t, state)
            return state, state[0]

        zero = jnp.zeros(hidden, x.dtype)
        return jax.vmap(lambda row: jax.lax.scan(step, (zero, zero), row)[1], 1, 1)(x)

    return ready_jax(work, apply, convert.to_equinox)


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("equinox", "equinox", "equinox.nn.LSTMCell under scan, vmap over the batch", ready),)
