"""haiku.dynamic_unroll over hk.LSTM. One joint matrix over [x, h], gates in the order i g f o, 1 added to f's bias."""

from __future__ import annotations

from typing import Any

from benchmarks.implementation import Implementation, Missing, Ready, only_plain
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from jax_lstm import convert

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
    return ready_jax(work, net.apply, convert.to_haiku)


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("haiku", "dm-haiku", "haiku.dynamic_unroll over hk.LSTM", ready),)
