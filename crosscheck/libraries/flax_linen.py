"""flax.linen: RNN, and Bidirectional of two, over OptimizedLSTMCell or LSTMCell, one after another for layers.

Flax leaves outputs in the padding as they come, which its documentation calls ignored: they are set to zero here.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import linen

from crosscheck.libraries.layers import ALWAYS_A_BIAS, NO_PROJECTION, NO_RNN, Layer, layer_runner, zero_padding
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert

LACKING = {"RNN": NO_RNN, "projection": NO_PROJECTION, "no bias": ALWAYS_A_BIAS}


def runner(case: Case, cell: str = "OptimizedLSTMCell"):
    return layer_runner(case, LACKING, lambda network: layer(network, cell))


def layer(case: RecurrentCase, cell: str) -> Layer:
    make = lambda: linen.RNN(getattr(linen, cell)(case.hidden_size))
    module = linen.Bidirectional(make(), make()) if case.bidirectional else make()
    options = {"return_carry": True, "time_major": case.time_major, "seq_lengths": lengths_of(case)}

    def run(params, x, h0, c0):
        carries = list(zip(c0, h0, strict=True))
        given = {"params": convert.to_flax(params)}
        last, y = module.apply(given, x, initial_carry=carries if case.bidirectional else carries[0], **options)
        return zero_padding(y, case), *states_of(last if case.bidirectional else [last])

    return run


def lengths_of(case: RecurrentCase):
    return None if case.lengths is None else np.asarray(case.lengths, np.int32)


def states_of(carries):
    """h_n, c_n [directions, *batch, H] of Flax's carries (c, h)."""
    return jnp.stack([h for _, h in carries]), jnp.stack([c for c, _ in carries])
