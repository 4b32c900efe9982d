"""flax.linen: RNN, and Bidirectional of two, over OptimizedLSTMCell or LSTMCell, stacked by the names of Sequential.

Flax leaves outputs in the padding that its documentation says to ignore. They are set to zero here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from crosscheck.libraries.adapter import (
    ALWAYS_A_BIAS,
    NO_PROJECTION,
    NO_RNN,
    Adapter,
    Outputs,
    State,
    Weights,
    zero_padding,
)
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert

LACKING = {"RNN": NO_RNN, "projection": NO_PROJECTION, "no bias": ALWAYS_A_BIAS}


class Stack(linen.Module):
    """linen.Sequential with initial states."""

    layers: Sequence[linen.Module]

    def __call__(self, x: jax.Array, carries: Sequence[Any], **options: Any) -> tuple[jax.Array, list[Any]]:
        """Return y, and the last carries of every layer."""
        return run_layers(self.layers, x, carries, **options)


def adapter(case: RecurrentCase, cell: str = "OptimizedLSTMCell") -> Adapter:
    """Return the network."""

    def run(weights: Weights, x: jax.Array, h0: State, c0: State) -> Outputs:
        named = weights if case.num_layers > 1 else {"layers_0": weights}  # a single RNN has no name
        apply: Callable[..., Any] = stack(case, cell, x.dtype).apply
        y, last = apply({"params": named}, x, carries_of(case, h0, c0), **loop_options(case))
        return zero_padding(y, case), *states_of(case, last)

    return Adapter(lambda params: convert.to_flax(params), run)


def stack(case: RecurrentCase, cell: str, dtype: Any) -> Stack:
    """Return the module."""
    wide = jnp.promote_types(dtype, jnp.float32)  # Flax draws no initial weights in a narrower dtype
    make = lambda: linen.RNN(getattr(linen, cell)(case.hidden_size, dtype=dtype, param_dtype=wide))
    layer = lambda: linen.Bidirectional(make(), make()) if case.bidirectional else make()
    return Stack([layer() for _ in range(case.num_layers)])


def run_layers(layers: Iterable[Any], x: Any, carries: Sequence[Any], **options: Any) -> tuple[jax.Array, list[Any]]:
    """Return y, and the last carries. This is the same for linen and nnx."""
    last = []
    for layer, carry in zip(layers, carries, strict=True):
        carry, x = layer(x, initial_carry=carry, return_carry=True, **options)
        last.append(carry)
    return x, last


def loop_options(case: RecurrentCase) -> dict[str, Any]:
    """Return the options of Flax's RNN and Bidirectional that the case asks for."""
    lengths = None if case.lengths is None else np.asarray(case.lengths, np.int32)
    return {"time_major": case.time_major, "seq_lengths": lengths}


def carries_of(case: RecurrentCase, h0: State, c0: State) -> list[Any]:
    """Return Flax's initial carries per layer: (c, h), two of them for both directions, or None."""
    if h0 is None or c0 is None:
        return [None] * case.num_layers
    rows = list(zip(c0, h0, strict=True))
    return list(zip(rows[::2], rows[1::2], strict=True)) if case.bidirectional else rows


def states_of(case: RecurrentCase, carries: Sequence[Any]) -> tuple[jax.Array, jax.Array]:
    """Return h_n and c_n of the last carries per layer."""
    rows = [row for pair in carries for row in pair] if case.bidirectional else carries
    return jnp.stack([h for _, h in rows]), jnp.stack([c for c, _ in rows])
