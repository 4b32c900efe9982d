"""The recurrence on cuDNN, through jax.experimental.rnn: one layer in one direction per call.

`stack` runs layers, directions and dropout, so that they mean the same on every backend. cuDNN runs forward in time,
batch first, and requires at least one step per row. This module arranges the rest: the reverse direction is the forward
direction on reversed rows, and a row of length 0 runs one step whose results are replaced. `backends` lists what cuDNN
cannot run. The workspace of cuDNN depends on the sizes, which must therefore be known.

Departures from jax.experimental.rnn.lstm: (1) TF32 follows the precision in all its spellings; that function refuses
"default" and uses TF32 for a float32 preset. (2) vmap works, one element after another; the batch axes of x are the
fast way. (3) A second derivative raises an error that says so. (4) Under shard_map the outputs vary with their inputs.
The primitive itself loses this, so that gradients would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Listed
from jax_lstm._src.plan import Plan, Trace, Weights
from jax_lstm._src.precisions import allows_tf32
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import zeros_like


class Sizes(NamedTuple):
    """The arguments of cuDNN's call that are fixed while tracing."""

    input_size: int
    hidden_size: int
    num_layers: int
    dropout: float
    bidirectional: bool
    precision: jax.lax.Precision


def recur_on_cudnn(plan: Plan, weights: Weights, x: Array, carry: LSTMState, lengths: Listed | None) -> Trace:
    """Run one layer in one direction, and return the last state and the h of every step, zero in the padding.

    Args:
      plan: what is fixed while tracing.
      weights: float32, without a projection.
      x: ``[T, *batch, D]``, float32 and finite in its padding.
      carry: the first state, in the sharding type of all operands together.
      lengths: int ``[*batch]`` or None. As under jit in `jax_lstm.lstm`, values outside 0 to T are clipped.
    """
    steps, *batch, _ = x.shape
    count = math.prod(batch)
    hidden = weights.hh.shape[1]
    precision = jax.lax.Precision.HIGH if allows_tf32(plan.precision) else jax.lax.Precision.HIGHEST
    sizes = Sizes(x.shape[-1], hidden, 1, 0.0, False, precision)
    valid = None
    if lengths is not None:
        valid = jnp.clip(jnp.asarray(lengths), 0, jnp.int32(steps)).astype(jnp.int32).reshape(count)
    at_least_one = jnp.full(count, steps, jnp.int32) if valid is None else jnp.maximum(valid, 1)

    zero = zeros_like(jnp.sum(carry.h)) + zeros_like(jnp.sum(carry.c))  # it has the type of all operands
    rows = _processing_order(plan, x.reshape(steps, count, -1), valid) + zero
    h, c = (a.reshape(1, count, hidden) + zero for a in (carry.h, carry.c))
    y, h, c = _layer(sizes, rows.swapaxes(0, 1), h, c, _pack(weights) + zero, at_least_one)

    y = _processing_order(plan, y.swapaxes(0, 1), valid).reshape(steps, *batch, hidden)
    last = LSTMState(*(a.reshape(*batch, hidden) for a in (h, c)))
    if valid is not None:
        empty = (valid == 0).reshape(*batch, 1)
        last = jax.tree.map(partial(jnp.where, empty), carry, last)
    return Trace(last, y, None, None)


def _pack(weights: Weights) -> Array:
    """Return cuDNN's vector ``[N]`` of one layer: W_ih, W_hh, and two biases. The first bias holds the sum."""
    bias = jnp.zeros(weights.ih.shape[0], weights.ih.dtype) if weights.bias is None else weights.bias
    return jnp.concatenate([weights.ih.ravel(), weights.hh.ravel(), bias, zeros_like(bias)])


def _processing_order(plan: Plan, rows: Array, lengths: Array | None) -> Array:
    """Return ``rows [T, B, ...]`` in the order of processing, with padding left in place. It is its own inverse."""
    if not plan.reverse:
        return rows
    if lengths is None:
        return jnp.flip(rows, 0)
    time = jnp.arange(rows.shape[0], dtype=lengths.dtype)[:, None]
    source = jnp.where(time < lengths[None], lengths[None] - 1 - time, time)
    batch = jnp.arange(rows.shape[1])[None]
    return rows.at[source, batch].get(unique_indices=True, mode="promise_in_bounds")


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer(sizes: Sizes, x: Array, h: Array, c: Array, weights: Array, lengths: Array) -> tuple[Array, Array, Array]:
    return _layer_forward(sizes, x, h, c, weights, lengths)[0]


def _layer_forward(sizes: Sizes, *operands: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    y, h, c, reserve = _only_once(partial(_run_forward, sizes))(*operands)
    always = (
        zeros_like(jnp.sum(operands[0])) == 0
    )  # True in the type of x; what it selects has that type and the same bits
    y, reserve = (jnp.where(always, a, a) for a in (y, reserve))
    return (y, h, c), (*operands, y, reserve)


def _layer_backward(sizes: Sizes, residuals: Any, cotangents: Any) -> tuple[Array | None, ...]:
    return *_only_once(partial(_run_backward, sizes))(residuals, cotangents), None


_layer.defvjp(_layer_forward, _layer_backward)


def _run_forward(sizes: Sizes, *operands: Array) -> tuple[Array, ...]:
    from jax.experimental import (
        rnn as cudnn_rnn,  # imported here, so that nothing else depends on an experimental module
    )

    x, h, c, weights, lengths = operands
    outputs, residuals = cudnn_rnn.lstm_fwd(x, h, c, weights, lengths, **sizes._asdict())
    return *outputs, residuals[-1]


def _run_backward(sizes: Sizes, residuals: Any, cotangents: Any) -> Any:
    from jax.experimental import rnn as cudnn_rnn

    return cudnn_rnn.lstm_bwd(*sizes, residuals, cotangents)[:-1]


def _only_once(call: Callable[..., Any]) -> Any:
    """Return ``call`` as a loop under vmap, and not differentiable: `_layer` has the rule of the first derivative."""
    mapped: Any = jax.custom_batching.sequential_vmap(call)
    once = jax.custom_jvp(mapped)

    @once.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise ValueError(
            "backend='cudnn' has first derivatives in reverse mode and no others; a derivative of its derivative was "
            "asked for. Write backend='scan'."
        )

    return once
