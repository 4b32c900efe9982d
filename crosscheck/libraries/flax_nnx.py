"""flax.nnx: RNN, and Bidirectional of two, over OptimizedLSTMCell or LSTMCell, one after another for layers.

As in flax.linen, outputs in the padding are set to zero here.
"""

from __future__ import annotations

import jax
from flax import nnx

from crosscheck.libraries.flax_linen import LACKING, lengths_of, states_of
from crosscheck.libraries.layers import Layer, layer_runner, zero_padding
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert


def runner(case: Case, cell: str = "OptimizedLSTMCell"):
    return layer_runner(case, LACKING, lambda network: layer(network, cell))


def layer(case: RecurrentCase, cell: str) -> Layer:
    options = {"return_carry": True, "time_major": case.time_major, "seq_lengths": lengths_of(case)}

    def run(params, x, h0, c0):
        graph, shapes, rest = nnx.split(nnx.eval_shape(lambda: module_of(case, cell, x)), nnx.Param, ...)
        state = jax.tree.map(lambda leaf: leaf, shapes)  # a copy, to be filled
        nnx.replace_by_pure_dict(state, convert.to_nnx(params, cell))
        module = nnx.merge(graph, state, rest)
        carries = list(zip(c0, h0, strict=True))
        last, y = module(x, initial_carry=tuple(carries) if case.bidirectional else carries[0], **options)
        return zero_padding(y, case), *states_of(last if case.bidirectional else [last])

    return run


def module_of(case: RecurrentCase, cell: str, x) -> nnx.Module:
    rngs = nnx.Rngs(0)
    make = lambda: nnx.RNN(
        getattr(nnx, cell)(x.shape[-1], case.hidden_size, dtype=x.dtype, param_dtype=x.dtype, rngs=rngs), rngs=False
    )
    return nnx.Bidirectional(make(), make(), rngs=False) if case.bidirectional else make()
