"""Equinox: equinox.nn.LSTMCell under jax.lax.scan, jax.vmap over the batch, as its documentation shows an RNN."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from crosscheck.libraries.layers import NO_PROJECTION, NO_RNN, ONE_DIRECTION, Layer, layer_runner
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "directions": ONE_DIRECTION,
    "lengths": "it has a cell of one step; lengths are left to its user",
}


def runner(case: Case):
    return layer_runner(case, LACKING, layer)


def layer(case: RecurrentCase) -> Layer:
    batched = case.batch is not None

    def run(params, x, h0, c0):
        written = convert.to_equinox(params)
        arrays = {name: a for name, a in written.items() if a is not None}
        make = lambda: eqx.nn.LSTMCell(x.shape[-1], case.hidden_size, case.bias, dtype=x.dtype, key=jax.random.key(0))
        where = lambda cell: [getattr(cell, name) for name in arrays]
        cell = eqx.tree_at(where, eqx.filter_eval_shape(make), list(arrays.values()))

        def row(x, h, c):
            (h, c), y = jax.lax.scan(lambda state, x_t: (new := cell(x_t, state), new[0]), (h, c), x)
            return y, h, c

        over_rows = jax.vmap(row, (1 - case.time_axis, 0, 0), (1 - case.time_axis, 0, 0)) if batched else row
        y, h, c = over_rows(x, h0[0], c0[0])
        return y, jnp.asarray(h)[None], jnp.asarray(c)[None]

    return run
