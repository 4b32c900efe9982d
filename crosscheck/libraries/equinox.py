"""Equinox: equinox.nn.LSTMCell under jax.lax.scan, jax.vmap over the batch, as its documentation shows an RNN."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from crosscheck.libraries.adapter import NO_PROJECTION, NO_RNN, ONE_DIRECTION, Adapter, Outputs, State, Weights
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "directions": ONE_DIRECTION,
    "lengths": "it has a cell of one step; lengths are left to its user",
}


def adapter(case: RecurrentCase) -> Adapter:
    """Return the network as a cell per layer and direction, in the order in which `to_equinox` writes them."""
    batch_axis = 1 - case.time_axis

    def run(weights: Weights, x: jax.Array, h0: State, c0: State) -> Outputs:
        written = weights if isinstance(weights, list) else [weights]
        last, outputs = [], [x]
        for n, (cell, arrays) in enumerate(zip(cells(case, x.dtype), written, strict=True)):
            if n % directions == 0:  # a new layer
                x, outputs = jnp.concatenate(outputs, -1), []
            loop = _loop(_with_arrays(cell, arrays), reverse=n % directions == 1)
            if case.batch is not None:
                loop = jax.vmap(loop, (batch_axis, 0, 0), (batch_axis, 0, 0))
            y, *state = loop(x, None if h0 is None else h0[n], None if c0 is None else c0[n])
            outputs.append(y)
            last.append(state)
        h, c = (jnp.stack(states) for states in zip(*last, strict=True))
        return jnp.concatenate(outputs, -1), h, c

    directions = 2 if case.bidirectional else 1
    return Adapter(lambda params: convert.to_equinox(params), run)


def cells(case: RecurrentCase, dtype: Any) -> list[eqx.nn.LSTMCell]:
    """Return the cells with shapes in place of arrays."""
    shapes = case.shapes()
    sizes = [shapes[f"weight_ih_l{layer}{end}"][1] for layer, end in case.layers_and_directions()]
    make = lambda size: eqx.nn.LSTMCell(size, case.hidden_size, case.bias, dtype=dtype, key=jax.random.key(0))
    return [eqx.filter_eval_shape(make, size) for size in sizes]


def _with_arrays(cell: eqx.nn.LSTMCell, written: dict[str, Any]) -> eqx.nn.LSTMCell:
    arrays = {name: a for name, a in written.items() if a is not None}
    return eqx.tree_at(lambda cell: [getattr(cell, name) for name in arrays], cell, list(arrays.values()))


def _loop(cell: eqx.nn.LSTMCell, *, reverse: bool) -> Any:
    """Return the loop over one row: x ``[T, D]``, h and c ``[H]``."""

    def step(state: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        state = cell(x, state)
        return state, state[0]

    def over_time(x: jax.Array, h0: State, c0: State) -> Outputs:
        zero = jnp.zeros(cell.hidden_size, x.dtype)
        start = (zero if h0 is None else h0, zero if c0 is None else c0)
        (h, c), y = jax.lax.scan(step, start, x, reverse=reverse)
        return y, h, c

    return over_time
