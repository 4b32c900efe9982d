"""Haiku: hk.dynamic_unroll over hk.LSTM, one after another for layers."""

from __future__ import annotations

from typing import Any

import haiku as hk

from crosscheck.libraries.layers import ALWAYS_A_BIAS, NO_PROJECTION, NO_RNN, ONE_DIRECTION, Layer, layer_runner
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "no bias": ALWAYS_A_BIAS,
    "directions": ONE_DIRECTION,
    "lengths": "hk.dynamic_unroll takes no lengths",
}


def runner(case: Case):
    return layer_runner(case, LACKING, layer)


def layer(case: RecurrentCase) -> Layer:
    def unroll(x, state):
        return hk.dynamic_unroll(hk.LSTM(case.hidden_size), x, state, time_major=case.time_axis == 0)

    net: Any = hk.without_apply_rng(hk.transform(unroll))

    def run(params, x, h0, c0):
        y, last = net.apply(convert.to_haiku(params), x, hk.LSTMState(h0[0], c0[0]))
        return y, last.hidden[None], last.cell[None]

    return run
