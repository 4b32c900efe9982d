"""flax.nnx: RNN, and Bidirectional of two, over OptimizedLSTMCell or LSTMCell, stacked by the names of Sequential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosscheck.libraries.adapter import Adapter, Outputs, State, Weights, zero_padding
from crosscheck.libraries.flax_linen import LACKING, carries_of, loop_options, run_layers, states_of
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert
from jax_lstm.convert.flax_nnx import CellName

__all__ = ["LACKING", "Stack", "adapter", "stack"]


class Stack(nnx.Module):
    """nnx.Sequential with initial states."""

    def __init__(self, layers: Sequence[nnx.Module]) -> None:
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array, carries: Sequence[Any], **options: Any) -> tuple[jax.Array, list[Any]]:
        """Return y, and the last carries of every layer."""
        return run_layers(self.layers, x, carries, **options)


def adapter(case: RecurrentCase, cell: CellName = "OptimizedLSTMCell") -> Adapter:
    """Return the network."""

    def run(weights: Weights, x: jax.Array, h0: State, c0: State) -> Outputs:
        if h0 is None or c0 is None:  # nnx would draw a random key for its own zeros
            batch = () if case.batch is None else (case.batch,)
            h0 = c0 = jnp.zeros((case.rows, *batch, case.hidden_size), x.dtype)
        graph, *states = nnx.split(nnx.eval_shape(lambda: stack(case, cell, x.dtype)), nnx.Param, ...)
        params, rest = states
        nnx.replace_by_pure_dict(params, weights if case.num_layers > 1 else {"layers": {0: weights}})
        y, last = nnx.merge(graph, params, rest)(x, carries_of(case, h0, c0), **loop_options(case))
        return zero_padding(y, case), *states_of(case, last)

    return Adapter(lambda params: convert.to_nnx(params, cell), run)


def stack(case: RecurrentCase, cell: str, dtype: Any) -> Stack:
    """Return the module with weights that its own initializer draws."""
    shapes, kinds = case.shapes(), {"dtype": dtype, "param_dtype": dtype, "rngs": nnx.Rngs(0)}

    def layer(number: int) -> nnx.Module:
        size = shapes[f"weight_ih_l{number}"][1]
        make = lambda: nnx.RNN(getattr(nnx, cell)(size, case.hidden_size, **kinds), rngs=False)
        return nnx.Bidirectional(make(), make(), rngs=False) if case.bidirectional else make()

    return Stack([layer(number) for number in range(case.num_layers)])
