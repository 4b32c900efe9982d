"""The recurrence in chunks: exact gradients, and memory of O(T/k + k) instead of O(T).

The backward pass recomputes each chunk of k steps, its input projection included. Between chunks only one state is kept
(Chen et al. 2016, Training deep nets with sublinear memory cost).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jax_lstm._src.arrays import Array
from jax_lstm._src.blocks import over_blocks
from jax_lstm._src.plan import Events, Plan, Trace, Weights
from jax_lstm._src.recurrence import recur
from jax_lstm._src.state import LSTMState


def recur_in_chunks(
    every: int | None,
    plan: Plan,
    weights: Weights,
    x: Array,
    carry: LSTMState,
    origin: LSTMState,
    events: Events,
) -> Trace:
    """Run `jax_lstm._src.recurrence.recur` in chunks of ``every`` steps from step 0. The last may be shorter."""
    if every is None or every >= x.shape[0]:
        return recur(plan, weights, x, carry, origin, events)
    run = jax.checkpoint(partial(recur, plan))

    def chunk(carry: LSTMState, inputs: tuple[Array, Events]) -> tuple[LSTMState, Any]:
        x, events = inputs
        trace = run(weights, x, carry, origin, events)
        return trace.last, trace[1:]

    last, steps = over_blocks(every, chunk, carry, (x, events), reverse=plan.reverse)
    return Trace(last, *steps)
