"""haiku.dynamic_unroll over hk.LSTM. One joint matrix over [x, h], gates in the order i g f o, 1 added to f's bias."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from crosscheck.bench.competitor import Competitor, Missing, Ready, only_plain
from crosscheck.bench.jax_program import ready_jax
from crosscheck.bench.work import Work

REASONS = {
    "lengths": "hk.dynamic_unroll takes no lengths",
    "projection": "hk.LSTM has no projection",
    "bidirectional": "hk.dynamic_unroll runs one direction; two of them are left to their user",
    "layers": "hk.LSTM is one layer; stacking is left to its user",
}


def ready(work: Work) -> Ready:
    only_plain(work, REASONS)
    try:
        import haiku as hk
    except ImportError:
        raise Missing("dm-haiku is not installed") from None

    def unroll(x):
        core = hk.LSTM(work.shape.hidden)
        return hk.dynamic_unroll(core, x, core.initial_state(work.shape.batch))[0]

    net: Any = hk.without_apply_rng(hk.transform(unroll))
    return ready_jax(work, net.apply, weights_of)


def weights_of(state_dict):
    columns = jnp.concatenate([state_dict["weight_ih_l0"], state_dict["weight_hh_l0"]], axis=1).T
    i, f, g, o = jnp.split(columns, 4, axis=1)
    b_i, b_f, b_g, b_o = jnp.split(state_dict["bias_ih_l0"] + state_dict["bias_hh_l0"], 4)
    linear = {"w": jnp.concatenate([i, g, f, o], axis=1), "b": jnp.concatenate([b_i, b_g, b_f - 1, b_o])}
    return {"lstm/linear": linear}


def competitors() -> tuple[Competitor, ...]:
    return (Competitor("haiku", "dm-haiku", "haiku.dynamic_unroll over hk.LSTM", ready),)
