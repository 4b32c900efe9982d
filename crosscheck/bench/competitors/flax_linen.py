"""flax.linen.RNN over OptimizedLSTMCell. Separate kernels a gate; the one bias lies with the recurrent ones."""

from __future__ import annotations

import jax.numpy as jnp

from crosscheck.bench.competitor import Competitor, Ready, only_plain
from crosscheck.bench.jax_program import ready_jax
from crosscheck.bench.work import Work

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
    return ready_jax(work, lambda weights, x: rnn.apply({"params": weights}, x), weights_of)


def weights_of(state_dict):
    ih, hh = (jnp.split(state_dict[f"weight_{name}_l0"], 4) for name in ("ih", "hh"))
    bias = jnp.split(state_dict["bias_ih_l0"] + state_dict["bias_hh_l0"], 4)
    cell = {f"i{gate}": {"kernel": w.T} for gate, w in zip("ifgo", ih, strict=True)}
    cell |= {f"h{gate}": {"kernel": w.T, "bias": b} for gate, w, b in zip("ifgo", hh, bias, strict=True)}
    return {"cell": cell}


def competitors() -> tuple[Competitor, ...]:
    return (Competitor("flax.linen", "flax", "flax.linen.RNN over OptimizedLSTMCell", ready),)
