"""The derivative of a run of `recurrence`: the products that need no loop, and the linear loop of `tangents`.

It is a linear function of the tangents. Reverse mode transposes it: the weight gradients are then products after the
loop. For backend="native" the transpose is one call, which a program for a CPU may compute by one compiled function.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, DTypeLike
from jax_lstm._src.custom_transpose import call_with_transpose
from jax_lstm._src.dtypes import storage_dtype
from jax_lstm._src.kernel_call import Kernel, call_with_kernel
from jax_lstm._src.plan import Kept, Moved, Path, Plan, Trace
from jax_lstm._src.products import as_it_is, product, weight_product
from jax_lstm._src.tangents import HSources, Residuals, Tangents, h_before, pull, push
from jax_lstm._src.trees import add, broadcast_bias, in_one_dtype, join_gates, split_gates, zeros_like


def differentiate(plan: Plan, kept: Kept, moved: Moved) -> Trace:
    """Return the tangents of the trace. It is linear in ``moved``."""
    if plan.backend != "native" or plan.path:  # the compiled function has no cotangents of a path
        return _differentiate(plan, kept, moved)
    if kept.events.reset is None:
        moved = moved._replace(origin=None)
    present = jax.tree.map(lambda _: True, moved)
    places = ((None, 1, 0, 0, 1, 1, 1), (None, 1, 0, 0), (0, 1, 1, 1))
    tangents: Trace = call_with_transpose(
        partial(_differentiate, plan), partial(_transpose, plan, present), kept, moved, places=places
    )
    return tangents


def _differentiate(plan: Plan, kept: Kept, moved: Moved) -> Trace:
    weights, x, carry, origin, events, h, path = kept
    h_sources = HSources.of(carry, origin, h, events)
    residuals = Residuals(weights.hh, weights.hr, events, path.c_before, path.gates)

    # 1. the terms that need no loop: one product over all steps for each weight matrix
    d_sums = _of_type(
        h,
        len(weights.ih),
        storage_dtype(weights.ih.dtype),
        product(plan, moved.x, weights.ih),
        weight_product(plan, as_it_is, None, x, moved.weights.ih),
        weight_product(plan, partial(h_before, plan), *h_sources, moved.weights.hh),
        broadcast_bias(moved.weights.bias, x),
    )
    d_projected = None
    if moved.weights.hr is not None:
        assert weights.hr is not None
        d_out = weight_product(plan, as_it_is, None, _unprojected(plan, path), moved.weights.hr)
        d_projected = _of_type(h, h.shape[-1], storage_dtype(weights.hr.dtype), d_out)

    # 2. the linear loop
    operands = Tangents(d_sums, d_projected, moved.carry, None if events.reset is None else moved.origin)
    pulled = partial(pull, plan, projected=d_projected is not None)
    d_last, d_h, d_c, d_c_before = call_with_transpose(partial(push, plan), pulled, residuals, operands)
    if not plan.path:
        return Trace(d_last, d_h, d_c, None)

    # 3. the tangents of the gates, which only a second derivative needs
    assert moved.origin is not None
    d_h_sources = HSources.of(moved.carry, moved.origin, d_h, events)
    _, d_h_before = h_before(plan, *d_h_sources, at_cut=lambda d: jnp.zeros((), d.dtype))
    d_z = split_gates(plan.cell, jnp.add(*in_one_dtype(d_sums, product(plan, d_h_before, weights.hh))))
    slopes = plan.cell.activation_slopes(split_gates(plan.cell, path.gates.astype(d_z[0].dtype)))
    d_gates = join_gates(tuple(map(jnp.multiply, slopes, d_z))).astype(path.gates.dtype)
    return Trace(d_last, d_h, d_c, Path(d_c_before, d_gates))


def _transpose(plan: Plan, present: Moved, kept: Kept, cotangents: Any) -> Moved:
    """Return the cotangents of ``moved`` in `differentiate`, from those of the trace.

    Args:
      plan: as for `differentiate`.
      present: a tree like ``moved`` that says which cotangents are wanted.
      kept: as for `differentiate`.
      cotangents: a `Trace` of cotangents. None is zero.
    """
    # A gradient of weights has no batch axis. Under vmap, each instance has its own.
    has_weights = bool(jax.tree.leaves(present.weights))
    places = None if has_weights else ((None, 1, 0, 0, 1, 1, 1, 0, 1, 1, None), (None, 1, 0, 0))
    kernel = Kernel("cpu", partial(_transpose_on_cpu, plan, present), places)
    moved: Moved = call_with_kernel(kernel, partial(_transpose_by_jax, plan, present), *kept, *cotangents)
    return moved


def _transpose_on_cpu(plan: Plan, present: Moved, *args: Any) -> Moved:
    from jax_lstm._src.cpu_kernel import run_backward  # imported when a program is lowered that runs it

    return run_backward(plan, present, *_kept_and_cotangents(args))


def _kept_and_cotangents(args: tuple[Any, ...]) -> tuple[Kept, Trace]:
    count = len(Kept._fields)
    return Kept(*args[:count]), Trace(*args[count:])


def _transpose_by_jax(plan: Plan, present: Moved, *args: Any) -> Moved:
    kept, cotangents = _kept_and_cotangents(args)
    primals = Moved(kept.weights, kept.x, kept.carry, kept.origin)
    pick = lambda wanted, a: None if wanted is None else a
    tree: Any  # JAX exports no type of a PyTreeDef
    like, tree = jax.tree.flatten(jax.tree.map(pick, present, primals, is_leaf=lambda wanted: wanted is None))
    nonzero = [n for n, ct in enumerate(_fields(cotangents)) if ct is not None]

    def of_nonzero(*moved: Array) -> list[Array]:
        tangents = _fields(_differentiate(plan, kept, tree.unflatten(moved)))
        return [tangents[n] for n in nonzero]

    pulled = jax.linear_transpose(of_nonzero, *like)([_fields(cotangents)[n] for n in nonzero])
    moved: Moved = tree.unflatten(pulled)
    return moved


def _unprojected(plan: Plan, path: Path) -> Array:
    """Return m of every step: h before the projection."""
    gates, c_before = in_one_dtype(split_gates(plan.cell, path.gates), path.c_before)
    return plan.cell.advance(gates, c_before)[0]


def _of_type(h: Array, width: int, dtype: DTypeLike, *terms: Array | None) -> Array:
    """Return the sum of the present terms, ``[T, *batch, width]``, always in the sharding type of h."""
    zero, total = zeros_like(h[..., :1], dtype), add(*terms)
    return jnp.broadcast_to(zero, (*h.shape[:-1], width)) if total is None else total.astype(dtype) + zero


def _fields(trace: Trace) -> list[Any]:
    return [trace.last.h, trace.last.c, trace.h, trace.c]
