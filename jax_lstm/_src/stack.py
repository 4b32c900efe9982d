"""Layers and directions over the recurrence, for any cell, as in torch.nn.LSTM and torch.nn.RNN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Abstract, Array, ArrayLike, DType, Params
from jax_lstm._src.backends import select_backend
from jax_lstm._src.blocks import are_known
from jax_lstm._src.cell import Cell
from jax_lstm._src.checks import require_floating, require_state
from jax_lstm._src.chunks import recur_in_chunks
from jax_lstm._src.cudnn import recur_on_cudnn
from jax_lstm._src.dtypes import accumulation_dtype, carry_dtype_of, compute_dtype
from jax_lstm._src.events import find_events
from jax_lstm._src.network import Network
from jax_lstm._src.options import Options
from jax_lstm._src.plan import Events, Plan, Trace, Weights
from jax_lstm._src.precisions import as_one_precision
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import vary_alike, zeros_like

Keep = Literal["h", "states"]  # what is kept from every step


class StackResult(NamedTuple):
    """y in the layout of x, the last state, and the state after every step if it was kept.

    Both states have one row per layer and direction, in torch's order.
    """

    y: Array
    last: LSTMState
    states: LSTMState | None


def run_stack(
    cell: Cell,
    network: Network,
    params: Params,
    x: ArrayLike,
    state: LSTMState | None,
    options: Options,
    keep: Keep = "h",
) -> StackResult:
    """Check all arguments and run all layers.

    ``state`` has one row per layer and direction; None means zeros.
    """
    check_input(x, network, options)
    batch = x.shape[1:-1] if options.time_major else x.shape[:-2]
    reset_state: Any = options.reset_state  # an LSTMState: `rnn` makes one of its array
    for name, rows in (("state", state), ("reset_state", reset_state)):
        check_state(name, rows, network, batch, cell.has_cell_state)
    settings, arrays = options.split()
    params, inputs, state = jax.tree.map(jnp.asarray, (dict(params), x, state))
    backend = select_backend(cell, network, inputs, compute_dtype(inputs, params), options, keep).backend
    result: StackResult = _run_layers(cell, network, settings, keep, backend, params, inputs, state, arrays)
    return result


@partial(jax.jit, static_argnums=range(5))
def _run_layers(
    cell: Cell,
    network: Network,
    settings: Options,
    keep: Keep,
    backend: Literal["scan", "native", "cudnn", "pallas"],
    params: dict[str, Array],
    x: Array,
    state: LSTMState | None,
    arrays: dict[str, Any],
) -> StackResult:
    """Run all layers, compiled.

    Without jax.jit here, a call outside jax.jit would compile its loop again each time, since the step of a loop is a
    new function each time.
    """
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
            weights = layer_weights(params, f"_l{layer}{suffix}", dtype)
            plan = Plan(
                cell,
                carry_dtype,
                reverse=bool(suffix),
                states=keep == "states",
                unroll=options.unroll,
                # The default is resolved here: a kernel is traced later, when a program is lowered.
                precision=as_one_precision(options.precision) if backend == "pallas" else options.precision,
                batch_first=not options.time_major,
                backend="scan" if backend == "cudnn" else backend,  # cudnn has a loop of its own
            )
            reset_state: Any = options.reset_state
            both = (state, reset_state)
            start = partial(first_state, plan, network, weights, steps, events, like=both, row=len(lasts))
            first = start(state)
            origin = first if events.reset is None else start(reset_state)
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
    return StackResult(jnp.moveaxis(steps, 0, time_axis), stack_rows(lasts), states)


def layer_weights(params: Params, suffix: str, dtype: DType) -> Weights:
    """Return the weights of one layer in one direction, with the sum of the two biases, in ``dtype``.

    The sum is made here, inside what is differentiated, so that each bias receives the full gradient.
    """
    entries = {
        name: params[name + suffix].astype(dtype)
        for name in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
        if name + suffix in params
    }
    bias = None
    if "bias_ih" in entries:
        wide = accumulation_dtype(dtype)
        bias = entries["bias_ih"].astype(wide) + entries["bias_hh"].astype(wide)
    return Weights(entries["weight_ih"], entries["weight_hh"], bias, entries.get("weight_hr"))


def first_state(
    plan: Plan,
    network: Network,
    weights: Weights,
    steps: Array,
    events: Events,
    state: LSTMState | None,
    like: tuple[LSTMState | None, ...],
    row: int,
) -> LSTMState:
    """Return the state that one row starts from, in the sharding type that the loop gives its carry.

    Under shard_map and on explicit meshes, the carry of a loop must have the type of what the loop puts into it.
    Therefore the zeros are made from a projected gate, and not from a shape. The type of every other operand is added,
    and a given state is added to the zeros. No value of an operand enters, and a compiler removes these computations.
    Delete them when jax.lax.scan gives its first carry the type of the later ones.

    Args:
      plan, network, weights: those of the row.
      steps: the inputs of the layer, ``[T, *batch, D]``.
      events: those of the direction.
      state: all rows of the initial state, or None for zeros.
      like: all states whose type the loop may meet, or None for each.
      row: which row.
    """
    operands = jax.tree.leaves((weights, events))
    zero = sum(zeros_like(jnp.sum(a), plan.carry_dtype) for a in operands)

    def zeros(width: int) -> Array:
        inputs = steps[0].astype(weights.ih.dtype)
        gate = jnp.einsum("...d,hd->...h", inputs, weights.ih[:width], precision=plan.precision)
        return zero + zeros_like(gate, plan.carry_dtype)

    first = LSTMState(zeros(network.output_size), zeros(network.hidden_size) if plan.cell.has_cell_state else None)
    rows_of = lambda state: jax.tree.map(lambda rows: rows[row].astype(plan.carry_dtype), state)
    for other in filter(None, like):
        first = jax.tree.map(lambda zero, rows: zero + zeros_like(rows), first, rows_of(other))
    return first if state is None else _sum_of_states(first, rows_of(state))


def _sum_of_states(a: LSTMState, b: LSTMState) -> LSTMState:
    total: LSTMState = jax.tree.map(jnp.add, a, b)
    return total


def _without_axes_of_one(
    run: Callable[[Array, LSTMState, LSTMState, Events], Trace],
    steps: Array,
    carry: LSTMState,
    origin: LSTMState,
    events: Events,
) -> Trace:
    """Call ``run`` without the batch axes that have one element, and put these axes back into its trace.

    Why: XLA on CPU copies whole sequences of gates and states between layouts that differ only in the place of such an
    axis. Measured with JAX 0.10, the temporary memory of a training step with T = 2048, B = 1, H = 256 in float32: 15
    MiB without the axis, 24 MiB with it. Delete this function when the two numbers agree. An axis of one element that
    is sharded, over a mesh axis of one device, stays, since it would come back unsharded.
    """
    batch = zip(steps.shape[1:-1], jax.typeof(steps).sharding.spec[1:-1], strict=True)
    ones = [axis for axis, (size, over) in enumerate(batch) if are_known(size) and size == 1 and over is None]
    state_axes, step_axes = tuple(ones), tuple(axis + 1 for axis in ones)
    drop = lambda tree, axes: jax.tree.map(lambda a: jnp.squeeze(a, axes), tree)
    restore = lambda tree, axes: jax.tree.map(lambda a: jnp.expand_dims(a, axes), tree)
    trace = run(drop(steps, step_axes), drop(carry, state_axes), drop(origin, state_axes), drop(events, step_axes))
    return Trace(restore(trace.last, state_axes), *restore(trace[1:], step_axes))


def _mask(valid: Array | None, steps: Array) -> Array:
    return steps if valid is None else jnp.where(valid, steps, 0)


def _dropout_keys(options: Options, num_layers: int) -> Array | list[None]:
    if not options.dropout or num_layers < 2:
        return [None] * num_layers
    assert options.dropout_key is not None
    return jax.random.split(options.dropout_key, num_layers - 1)


def _dropout(rate: float, key: Array | None, steps: Array) -> Array:
    if key is None:
        return steps
    if rate == 1.0:
        return zeros_like(steps)
    kept = jax.random.bernoulli(key, 1.0 - rate, steps.shape)
    # A product, since jnp.where would require one sharding of both.
    return steps * (kept.astype(steps.dtype) / (1.0 - float(rate)))


def stack_rows(states: list[LSTMState]) -> LSTMState:
    """Return one state with a row for each of ``states``."""
    stacked: LSTMState = jax.tree.map(lambda *rows: jnp.stack(rows), *states)
    return stacked


def _all_states(traces: list[Trace], valid: Array | None, time_axis: int) -> LSTMState:
    """Return the state of every row after every step: [rows, *leading axes of x, width]; zero in the padding, as y."""
    rows = stack_rows([LSTMState(trace.h, trace.c) for trace in traces])
    masked: LSTMState = jax.tree.map(
        lambda a: jnp.moveaxis(_mask(None if valid is None else valid[None], a), 1, 1 + time_axis), rows
    )
    return masked


def check_input(x: Abstract, network: Network, options: Options) -> None:
    """Raise TypeError or ValueError unless x and the options fit the network and each other."""
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


def check_state(
    name: str, state: LSTMState | None, network: Network, batch: tuple[int, ...], has_cell_state: bool
) -> None:
    """Check a state of all rows. A batch axis of one element stands for the whole batch."""
    if state is None:
        return
    rows = len(network.rows)
    widths = {"h": network.output_size} | ({"c": network.hidden_size} if has_cell_state else {})
    for field, width in widths.items():
        label = f"{name}.{field}" if has_cell_state else {"state": "h"}.get(name, name)
        layout = "[layers * directions, *batch, width]"
        require_state(label, getattr(state, field), layout, (rows, *batch, width), slice(1, -1))
