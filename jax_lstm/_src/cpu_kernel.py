"""The loops over time as compiled functions for a CPU: the forward loop, and its backward pass.

They replace `recurrence.recur`, the transpose of `derivative`, and the layers of `stream_steps`. The functions are in
the folder `native`. They take any number of steps, rows and units, in float32 or float64, and the events. They compute
what the loops of scan compute, in another order of summation. All batch axes are one axis here.

Scratch memory is an output that nobody reads. XLA thus allocates it and counts it with the program's other temporary
memory.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.arrays import Array
from jax_lstm._src.cpu_library import load_library
from jax_lstm._src.plan import Events, Kept, Moved, Path, Plan, Trace, Weights
from jax_lstm._src.state import LSTMState


class Sizes(NamedTuple):
    """The sizes of a call, with all batch axes as one."""

    steps: int
    batch: int
    inputs: int
    hidden: int

    @classmethod
    def of(cls, x: Array, w_hh: Array) -> Sizes:
        return cls(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1], w_hh.shape[1])

    def rows(self) -> tuple[int, int]:
        """Return the shape of a state."""
        return self.batch, self.hidden

    def steps_of(self, width: int) -> tuple[int, int, int]:
        """Return the shape of an array with ``width`` numbers per step and row."""
        return self.steps, self.batch, width


CALLERS = ("x", "h", "c_before", "ct_h", "ct_x")  # in the order of the caller's axes; all others are time-major


def run_forward(plan: Plan, weights: Weights, x: Array, carry: LSTMState, origin: LSTMState, events: Events) -> Trace:
    """Run `jax_lstm._src.recurrence.recur` for a call for which `obstacles_to_native` returns nothing."""
    leading, dtype, sizes = x.shape[:-1], x.dtype, Sizes.of(x, weights.hh)
    rows, every_step, every_x = sizes.rows(), sizes.steps_of(sizes.hidden), sizes.steps_of(sizes.inputs)
    absent = jnp.zeros(0, dtype)
    shapes: dict[str, tuple[int, ...]] = {
        "last_h": rows,
        "last_c": rows,
        "h": every_step,
        "c": every_step if plan.states else (0,),
        "c_before": every_step if plan.path else (0,),
        "gates": sizes.steps_of(4 * sizes.hidden) if plan.path else (0,),
        "scratch": (_scratch("forward", sizes, dtype),),
    }
    has_reset = events.reset is not None
    last_h, last_c, h, c, c_before, gates, _ = _call(
        plan,
        "forward",
        sizes,
        shapes,
        {
            "x": x.reshape(every_x),
            "w_ih": weights.ih,
            "w_hh": weights.hh,
            "bias": absent if weights.bias is None else weights.bias,
            "first_h": carry.h.reshape(rows),
            "first_c": carry.c.reshape(rows),
            "valid": _flags(events.valid, leading),
            "reset": _flags(events.reset, leading),
            "origin_h": origin.h.reshape(rows) if has_reset else absent,
            "origin_c": origin.c.reshape(rows) if has_reset else absent,
        },
        dtype,
    )
    of_steps = lambda a: a.reshape(*leading, a.shape[-1])
    path = Path(of_steps(c_before), of_steps(gates)) if plan.path else None
    last = LSTMState(last_h.reshape(carry.h.shape), last_c.reshape(carry.c.shape))
    return Trace(last, of_steps(h), of_steps(c) if plan.states else None, path)


def run_backward(plan: Plan, wanted: Moved, kept: Kept, cotangents: Trace) -> Moved:
    """Return the cotangents of those arguments of the forward loop that are not None in ``wanted``.

    It is the transpose of `jax_lstm._src.derivative.differentiate`.
    """
    weights, x, carry, origin, events, h, path = kept
    assert path.c_before is not None
    leading, dtype, sizes = x.shape[:-1], x.dtype, Sizes.of(x, weights.hh)
    rows, every_step, every_x = sizes.rows(), sizes.steps_of(sizes.hidden), sizes.steps_of(sizes.inputs)
    absent = jnp.zeros(0, dtype)
    has_reset = events.reset is not None
    shapes: dict[str, tuple[int, ...]] = {
        "ct_first_h": rows,
        "ct_first_c": rows,
        "ct_origin_h": rows if has_reset else (0,),
        "ct_origin_c": rows if has_reset else (0,),
        "ct_x": every_x if wanted.x else (0,),
        "ct_w_ih": weights.ih.shape if wanted.weights.ih else (0,),
        "ct_w_hh": weights.hh.shape if wanted.weights.hh else (0,),
        "ct_bias": (4 * sizes.hidden,) if wanted.weights.bias else (0,),
        "scratch": (_scratch("backward", sizes, dtype),),
    }
    first_h, first_c, origin_h, origin_c, ct_x, ct_w_ih, ct_w_hh, ct_bias, _ = _call(
        plan,
        "backward",
        sizes,
        shapes,
        {
            "gates": path.gates.reshape(sizes.steps_of(4 * sizes.hidden)),
            "c_before": path.c_before.reshape(every_step),
            "h": h.reshape(every_step),
            "x": x.reshape(every_x),
            "w_ih": weights.ih,
            "w_hh": weights.hh,
            "first_h": carry.h.reshape(rows),
            "valid": _flags(events.valid, leading),
            "reset": _flags(events.reset, leading),
            "cut": _flags(events.cut, leading),
            "origin_h": origin.h.reshape(rows) if has_reset else absent,
            "ct_last_h": _or_zeros(cotangents.last.h, rows, dtype),
            "ct_last_c": _or_zeros(cotangents.last.c, rows, dtype),
            "ct_h": absent if cotangents.h is None else cotangents.h.reshape(every_step),
            "ct_c": absent if cotangents.c is None else cotangents.c.reshape(every_step),
        },
        dtype,
    )
    state = lambda h, c: LSTMState(h.reshape(carry.h.shape), c.reshape(carry.c.shape))
    gradients: tuple[Any, ...] = (
        ct_w_ih if wanted.weights.ih else None,
        ct_w_hh if wanted.weights.hh else None,
        ct_bias if wanted.weights.bias else None,
        None,
    )
    return Moved(
        Weights(*gradients),
        ct_x.reshape(x.shape) if wanted.x else None,
        state(first_h, first_c),
        state(origin_h, origin_c) if has_reset else None,
    )


def _or_zeros(a: Array | None, shape: tuple[int, ...], dtype: Any) -> Array:
    return jnp.zeros(shape, dtype) if a is None else a.reshape(shape)


def _call(
    plan: Plan,
    loop: str,
    sizes: Sizes,
    shapes: dict[str, tuple[int, ...]],
    arrays: dict[str, Array],
    dtype: Any,
) -> Any:
    # The gradient of x may be written over c_before, which nothing else needs.
    shares = "ct_x" in shapes and shapes["ct_x"] == arrays["c_before"].shape
    aliases = {list(arrays).index("c_before"): list(shapes).index("ct_x")} if shares else {}
    # XLA removes this exchange of axes together with that of the caller.
    exchange = lambda name, ndim: plan.batch_first and name in CALLERS and ndim == 3
    in_order = lambda shape: (shape[1], shape[0], *shape[2:])
    call = jax.ffi.ffi_call(
        f"jax_lstm_{loop}_{dtype.name}",
        [
            jax.ShapeDtypeStruct(in_order(shape) if exchange(name, len(shape)) else shape, dtype)
            for name, shape in shapes.items()
        ],
        input_output_aliases=aliases,
    )
    attributes = {name: np.int64(size) for name, size in sizes._asdict().items()}
    results = call(
        *(jnp.swapaxes(a, 0, 1) if exchange(name, a.ndim) else a for name, a in arrays.items()),
        **attributes,
        reverse=plan.reverse,
        batch_major=plan.batch_first,
    )
    return [jnp.swapaxes(a, 0, 1) if exchange(name, a.ndim) else a for name, a in zip(shapes, results, strict=True)]


def _scratch(loop: str, sizes: Sizes, dtype: Any) -> int:
    """Return how many numbers of scratch memory a call needs."""
    of_sizes = getattr(load_library().functions, f"jax_lstm_{loop}_scratch")
    return int(of_sizes(*sizes, dtype.itemsize))


def _flags(flags: Array | None, shape: tuple[int, ...]) -> Array:
    """Return the flags ``[T, *batch or ones, 1]`` of an event as ``[T, B]``, or the empty array if it never happens."""
    if flags is None:
        return jnp.zeros(0, jnp.bool_)
    return jnp.broadcast_to(flags[..., 0], shape).reshape(shape[0], -1)
