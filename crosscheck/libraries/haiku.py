"""Haiku: hk.dynamic_unroll over hk.DeepRNN of hk.LSTM."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from crosscheck.libraries.adapter import ALWAYS_A_BIAS, NO_PROJECTION, NO_RNN, ONE_DIRECTION, Adapter, Outputs, State
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "no bias": ALWAYS_A_BIAS,
    "directions": ONE_DIRECTION,
    "lengths": "hk.dynamic_unroll takes no lengths",
}


def adapter(case: RecurrentCase) -> Adapter:
    """Return the network."""
    return Adapter(lambda params: convert.to_haiku(params), transformed(case).apply)


def transformed(case: RecurrentCase) -> Any:
    """Return Haiku's pair of functions: ``init(key, x, h0, c0)`` and ``apply(weights, x, h0, c0)``."""

    def unroll(x: jax.Array, h0: State, c0: State) -> Outputs:
        core = hk.DeepRNN([hk.LSTM(case.hidden_size) for _ in range(case.num_layers)])
        if h0 is None or c0 is None:
            start = core.initial_state(case.batch)
        else:
            start = tuple(hk.LSTMState(h, c) for h, c in zip(h0, c0, strict=True))
        y, last = hk.dynamic_unroll(core, x, start, time_major=case.time_axis == 0)
        return y, jnp.stack([state.hidden for state in last]), jnp.stack([state.cell for state in last])

    return hk.without_apply_rng(hk.transform(unroll))
