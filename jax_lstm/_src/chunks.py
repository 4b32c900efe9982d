"""The recurrence in chunks: exact gradients, and memory of O(T/k + k) instead of O(T).

Each chunk of k steps, its input projection included, is recomputed during the backward pass; what is kept between
chunks is one state each (Chen et al. 2016, Training deep nets with sublinear memory cost).
"""

from __future__ import annotations

from functools import partial

import jax

from jax_lstm._src.blocks import over_blocks
from jax_lstm._src.recurrence import Trace, recur


def recur_in_chunks(every, plan, weights, x, carry, origin, events):
    """As :func:`jax_lstm._src.recurrence.recur`, in chunks of ``every`` steps from step 0; the last may be shorter."""
    if every is None or every >= x.shape[0]:
        return recur(plan, weights, x, carry, origin, events)
    run = jax.checkpoint(partial(recur, plan))

    def chunk(carry, at):
        x, events = at
        trace = run(weights, x, carry, origin, events)
        return trace.last, trace[1:]

    last, steps = over_blocks(every, chunk, carry, (x, events), reverse=plan.reverse)
    return Trace(last, *steps)
