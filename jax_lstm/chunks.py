"""The recurrence in chunks: exact gradients, and memory of O(T/k + k) instead of O(T).

Each chunk of k steps, its input projection included, is recomputed during the backward pass; what is kept between
chunks is one state each (Chen et al. 2016, Training deep nets with sublinear memory cost).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jax_lstm.recurrence import Trace, recur


def recur_in_chunks(every, plan, weights, x, carry, origin, events):
    """As :func:`jax_lstm.recurrence.recur`, in chunks of ``every`` steps from step 0; the last may be shorter."""
    length = x.shape[0]
    if every is None or every >= length:
        return recur(plan, weights, x, carry, origin, events)
    run = jax.checkpoint(partial(recur, plan))
    whole = length // every * every

    def body(carry, at):
        x, events = at
        trace = run(weights, x, carry, origin, events)
        return trace.last, (trace.h, trace.c, trace.gates)

    def many(carry):
        parts = jax.tree.map(lambda a: a[:whole].reshape(whole // every, every, *a.shape[1:]), (x, events))
        last, steps = jax.lax.scan(body, carry, parts, reverse=plan.reverse)
        return last, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), steps)

    def rest(carry):
        return body(carry, jax.tree.map(lambda a: a[whole:], (x, events)))

    if whole == length:
        return _trace(*many(carry))
    if plan.reverse:
        carry, late = rest(carry)
        last, early = many(carry)
    else:
        carry, early = many(carry)
        last, late = rest(carry)
    return _trace(last, jax.tree.map(lambda a, b: jnp.concatenate((a, b)), early, late))


def _trace(last, steps):
    return Trace(last, *steps)
