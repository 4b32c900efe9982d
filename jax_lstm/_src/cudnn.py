"""The recurrence on cuDNN, through jax.experimental.rnn: one layer in one direction a call.

Layers, directions and dropout stay with `stack`, so they mean what they mean on every backend. cuDNN runs forward
in time, batch first, and wants every row at least one step long; what differs from that is arranged around it here:
the reverse direction is the forward one on reversed rows, and a row of length 0 runs one step whose results are
replaced. `backends` says what it cannot run. Its workspace depends on the sizes, which must be known.

Departures from calling jax.experimental.rnn.lstm itself: (1) TF32 follows the precision in all its spellings, where
that function refuses "default" and takes TF32 for a float32 preset; (2) vmap works, one element after another: the
batch axes of x are the fast way; (3) a second derivative is an error that says so; (4) under shard_map the outputs
vary with their inputs, where the primitive forgets that, and gradients would be wrong.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.backends import allows_tf32
from jax_lstm._src.recurrence import Plan, Trace, Weights
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import zeros_like


class Sizes(NamedTuple):
    """The arguments of cuDNN's call that are fixed at trace time."""

    input_size: int
    hidden_size: int
    num_layers: int
    dropout: float
    bidirectional: bool
    precision: Any


def recur_on_cudnn(plan: Plan, weights: Weights, x: Any, carry: LSTMState, lengths: Any) -> Trace:
    """Runs one layer in one direction over ``x [T, *batch, D]``, float32 and finite in its padding.

    ``carry`` is the first state, of the sharding type that all operands have together; ``lengths`` int ``[*batch]``
    or None, read as :func:`jax_lstm.lstm` reads it under jit. Returns a :class:`Trace` of the last state and every
    step's h, zero in the padding.
    """
    steps, *batch, _ = x.shape
    count = math.prod(batch)
    hidden = weights.hh.shape[1]
    precision = jax.lax.Precision.HIGH if allows_tf32(plan.precision) else jax.lax.Precision.HIGHEST
    sizes = Sizes(x.shape[-1], hidden, 1, 0.0, False, precision)
    if lengths is not None:
        lengths = jnp.clip(jnp.asarray(lengths), 0, jnp.int32(steps)).astype(jnp.int32).reshape(count)
    at_least_one = jnp.full(count, steps, jnp.int32) if lengths is None else jnp.maximum(lengths, 1)

    zero = sum(zeros_like(jnp.sum(a)) for a in (carry.h, carry.c))
    rows = _in_time(plan, x.reshape(steps, count, -1), lengths) + zero
    h, c = (a.reshape(1, count, hidden) + zero for a in (carry.h, carry.c))
    y, h, c = _layer(sizes, rows.swapaxes(0, 1), h, c, _pack(weights) + zero, at_least_one)

    y = _in_time(plan, y.swapaxes(0, 1), lengths).reshape(steps, *batch, hidden)
    last = LSTMState(*(a.reshape(*batch, hidden) for a in (h, c)))
    if lengths is not None:
        empty = (lengths == 0).reshape(*batch, 1)
        last = jax.tree.map(partial(jnp.where, empty), carry, last)
    return Trace(last, y, None, None)


def _pack(weights: Weights) -> jax.Array:
    """Return cuDNN's vector ``[N]`` of one layer: W_ih, W_hh, and two biases, of which the first holds the sum."""
    bias = jnp.zeros(weights.ih.shape[0], weights.ih.dtype) if weights.bias is None else weights.bias
    return jnp.concatenate([weights.ih.ravel(), weights.hh.ravel(), bias, zeros_like(bias)])


def _in_time(plan, rows, lengths):
    """``rows [T, B, ...]`` in the order in which they are processed, padding left in its place; its own inverse."""
    if not plan.reverse:
        return rows
    if lengths is None:
        return jnp.flip(rows, 0)
    time = jnp.arange(rows.shape[0], dtype=lengths.dtype)[:, None]
    source = jnp.where(time < lengths[None], lengths[None] - 1 - time, time)
    each = jnp.arange(rows.shape[1])[None]
    return rows.at[source, each].get(unique_indices=True, mode="promise_in_bounds")


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer(sizes, x, h, c, weights, lengths):
    return _layer_forward(sizes, x, h, c, weights, lengths)[0]


def _layer_forward(sizes, *operands):
    y, h, c, reserve = _only_once(partial(_run_forward, sizes))(*operands)
    always = zeros_like(jnp.sum(operands[0])) == 0  # of x's type, and so is what it selects, bit for bit
    y, reserve = (jnp.where(always, a, a) for a in (y, reserve))
    return (y, h, c), (*operands, y, reserve)


def _layer_backward(sizes, residuals, cotangents):
    return *_only_once(partial(_run_backward, sizes))(residuals, cotangents), None


_layer.defvjp(_layer_forward, _layer_backward)


def _run_forward(sizes, *operands):
    from jax.experimental import rnn as cudnn_rnn  # experimental: nothing else of this package may depend on it

    outputs, residuals = cudnn_rnn.lstm_fwd(*operands, **sizes._asdict())
    return *outputs, residuals[-1]


def _run_backward(sizes, residuals, cotangents):
    from jax.experimental import rnn as cudnn_rnn

    return cudnn_rnn.lstm_bwd(*sizes, residuals, cotangents)[:-1]


def _only_once(call):
    """``call`` under vmap as a loop, and not differentiable: the first derivative is `_layer`'s rule."""
    call = jax.custom_jvp(jax.custom_batching.sequential_vmap(call))

    @call.defjvp
    def refuse(primals, tangents):
        raise ValueError(
            "backend='cudnn' has first derivatives in reverse mode and no others; a derivative of its derivative was "
            "asked for. Write backend='scan'."
        )

    return call
