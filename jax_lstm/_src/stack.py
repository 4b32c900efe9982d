"""Layers and directions over the recurrence, for any cell: what torch.nn.LSTM and torch.nn.RNN put around theirs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.backends import choose
from jax_lstm._src.blocks import are_known
from jax_lstm._src.cell import Cell
from jax_lstm._src.checks import require_floating, require_state
from jax_lstm._src.chunks import recur_in_chunks
from jax_lstm._src.cudnn import recur_on_cudnn
from jax_lstm._src.dtypes import accumulation_dtype, carry_dtype_of, compute_dtype
from jax_lstm._src.events import find_events
from jax_lstm._src.network import Network
from jax_lstm._src.options import Options
from jax_lstm._src.recurrence import Plan, Trace, Weights
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import vary_alike, zeros_like


class Ran(NamedTuple):
    """y in x's layout; the last state and, where kept, every step's, both as rows in torch's order."""

    y: jax.Array
    last: LSTMState
    states: LSTMState | None


def run_stack(cell: Cell, network: Network, params, x, state: LSTMState | None, options: Options, keep="h") -> Ran:
    """Runs all layers. ``state`` holds one row a layer and direction; None means zeros."""
    check_input(x, network, options)
    batch = x.shape[1:-1] if options.time_major else x.shape[:-2]
    for name, given in (("state", state), ("reset_state", options.reset_state)):
        check_state(name, given, network, batch, cell.has_cell_state)
    settings, arrays = options.split()
    params, x, state = jax.tree.map(jnp.asarray, (dict(params), x, state))
    backend = choose(cell, network, x, compute_dtype(x, params), options, keep).backend
    return _run_layers(cell, network, settings, keep, backend, params, x, state, arrays)


@partial(jax.jit, static_argnums=range(5))
def _run_layers(cell: Cell, network: Network, settings: Options, keep, backend, params, x, state, arrays) -> Ran:
    """Compiled, lest a call outside jax.jit compiles its loop anew each time: the step of a loop is a new function."""
    options = replace(settings, **arrays)
    time_axis = 0 if options.time_major else x.ndim - 2
    params, x = vary_alike((params, x))
    dtype = compute_dtype(x, params)
    carry_dtype = carry_dtype_of(options.carry_dtype, dtype)
    steps = jnp.moveaxis(x, time_axis, 0).astype(dtype)
    forward, backward, valid = find_events(options, steps, time_axis)
    steps = _mask(valid, steps)
    keys = _dropout_keys(options, network.num_layers)
    lasts: list[LSTMState] = []
    traces: list[Trace] = []
    for layer in range(network.num_layers):
        outputs = []
        for suffix, events in (("", forward), ("_reverse", backward))[: network.directions]:
            weights = weights_of(params, f"_l{layer}{suffix}", dtype)
            plan = Plan(
                cell,
                carry_dtype,
                reverse=bool(suffix),
                states=keep == "states",
                residuals=options.residuals,
                unroll=options.unroll,
                precision=options.precision,
            )
            both = (state, options.reset_state)
            start = partial(first_state, plan, network, weights, steps, events, like=both, row=len(lasts))
            first = start(state)
            origin = first if events.reset is None else start(options.reset_state)
            if backend == "cudnn":
                trace = recur_on_cudnn(plan, weights, steps, first, options.lengths)
            else:
                run = partial(recur_in_chunks, options.checkpoint_every, plan, weights)
                trace = _without_axes_of_one(run, steps, first, origin, events)
            lasts.append(trace.last)
            traces.append(trace)
            outputs.append(_mask(valid, trace.h.astype(dtype)))
        steps = jnp.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
        if layer < network.num_layers - 1:
            steps = _dropout(options.dropout, keys[layer], steps)
    states = None if keep == "h" else _all_states(traces, valid, time_axis)
    return Ran(jnp.moveaxis(steps, 0, time_axis), stack_rows(lasts), states)


def weights_of(params, suffix, dtype):
    """One layer in one direction. The two biases are summed here, so that each receives the full gradient."""
    taken = {
        name: params[name + suffix].astype(dtype)
        for name in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
        if name + suffix in params
    }
    bias = None
    if "bias_ih" in taken:
        wide = accumulation_dtype(dtype)
        bias = taken["bias_ih"].astype(wide) + taken["bias_hh"].astype(wide)
    return Weights(taken["weight_ih"], taken["weight_hh"], bias, taken.get("weight_hr"))


def first_state(plan, network, weights, steps, events, state, like, row):
    """The state that row ``row`` starts from. ``like`` holds all states that the loop may meet, or None for each.

    Zeros are made like a projected gate and not from a shape, with the type of every other operand added, and a given
    state is added to them: so the loop's carry has the sharding type of what the loop puts into it, under shard_map
    and on explicit meshes too. No value of an operand enters, and a compiler drops what is computed here.
    """
    operands = jax.tree.leaves((weights, events))
    zero = sum(zeros_like(jnp.sum(a), plan.carry_dtype) for a in operands)

    def zeros(width):
        inputs = steps[0].astype(weights.ih.dtype)
        gate = jnp.einsum("...d,hd->...h", inputs, weights.ih[:width], precision=plan.precision)
        return zero + zeros_like(gate, plan.carry_dtype)

    first = LSTMState(zeros(network.output_size), zeros(network.hidden_size) if plan.cell.has_cell_state else None)
    rows_of = lambda state: jax.tree.map(lambda rows: rows[row].astype(plan.carry_dtype), state)
    for other in filter(None, like):
        first = jax.tree.map(lambda zero, rows: zero + zeros_like(rows), first, rows_of(other))
    return first if state is None else jax.tree.map(jnp.add, first, rows_of(state))


def _without_axes_of_one(run, steps, carry, origin, events):
    """``run`` without those batch axes that have one element, which are put back into its trace.

    XLA copies whole sequences of gates and states between layouts that differ in nothing but the place of such an
    axis: at batch 1 that doubles the memory of a training step on CPU. One that is sharded, over an axis of one device
    of an explicit mesh, stays: dropped, it would come back unsharded.
    """
    batch = zip(steps.shape[1:-1], jax.typeof(steps).sharding.spec[1:-1], strict=True)
    ones = [axis for axis, (size, over) in enumerate(batch) if are_known(size) and size == 1 and over is None]
    of_states, of_steps = tuple(ones), tuple(axis + 1 for axis in ones)
    drop = lambda tree, axes: jax.tree.map(lambda a: jnp.squeeze(a, axes), tree)
    put = lambda tree, axes: jax.tree.map(lambda a: jnp.expand_dims(a, axes), tree)
    trace = run(drop(steps, of_steps), drop(carry, of_states), drop(origin, of_states), drop(events, of_steps))
    return Trace(put(trace.last, of_states), *put(trace[1:], of_steps))


def _mask(valid, steps):
    return steps if valid is None else jnp.where(valid, steps, 0)


def _dropout_keys(options, num_layers):
    if not options.dropout or num_layers < 2:
        return [None] * num_layers
    return jax.random.split(options.dropout_key, num_layers - 1)


def _dropout(rate, key, steps):
    if key is None:
        return steps
    if rate == 1.0:
        return zeros_like(steps)
    kept = jax.random.bernoulli(key, 1.0 - rate, steps.shape)
    # A product, since a select would want one sharding of both.
    return steps * (kept.astype(steps.dtype) / (1.0 - float(rate)))


def stack_rows(states):
    return jax.tree.map(lambda *rows: jnp.stack(rows), *states)


def _all_states(traces: list[Trace], valid, time_axis):
    """Every step's state of every row: [rows, *x's leading axes, width]; zero in the padding, as y is."""
    rows = stack_rows([LSTMState(trace.h, trace.c) for trace in traces])
    return jax.tree.map(
        lambda a: jnp.moveaxis(_mask(None if valid is None else valid[None], a), 1, 1 + time_axis), rows
    )


def check_input(x, network, options):
    layout = "[T, *batch, D]" if options.time_major else "[*batch, T, D]"
    require_floating("x", x, layout)
    if x.ndim < 2:
        raise ValueError(f"x must be {layout}, at least [T, D]; got shape {tuple(x.shape)}.")
    if x.shape[-1] != network.input_size:
        raise ValueError(
            f"x must be {layout} with D = {network.input_size} (the columns of weight_ih_l0); "
            f"got shape {tuple(x.shape)}, D = {x.shape[-1]}."
        )
    if x.shape[0 if options.time_major else -2] == 0:
        raise ValueError(f"x must be {layout} with at least one step; got shape {tuple(x.shape)}, T = 0.")
    options.check(tuple(x.shape))


def check_state(name, state, network, batch, has_cell_state):
    """Check a state that is given as rows; a batch axis of one element stands for every element of the batch."""
    if state is None:
        return
    rows = len(network.rows)
    widths = {"h": network.output_size} | ({"c": network.hidden_size} if has_cell_state else {})
    for field, width in widths.items():
        label = f"{name}.{field}" if has_cell_state else {"state": "h"}.get(name, name)
        layout = "[layers * directions, *batch, width]"
        require_state(label, getattr(state, field), layout, (rows, *batch, width), slice(1, -1))
