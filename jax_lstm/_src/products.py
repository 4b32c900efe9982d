"""The recurrence's matrix products: over all steps at once, and of one step inside a loop.

Sums are accumulated in at least float32, and every product takes the caller's precision.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jax_lstm._src.blocks import are_known, near_divisor, over_blocks
from jax_lstm._src.dtypes import accumulation_dtype
from jax_lstm._src.linear import linear


def product(plan, a, w):
    """a [..., in] times w [out, in] over all steps at once; None where either is None."""
    return None if a is None or w is None else _dot(plan, a, w, 1)


def weight_product(plan, left, carry, steps, d_w):
    """:func:`product` of a and d_w, the tangent of a weight; where ``carry, a = left(carry, steps)``.

    What counts is the transpose: d_w from a and dz. JAX would make one product dz^T a of it. Here a^T dz is summed
    over blocks of steps, and ``left`` makes a block of a when its turn comes: on CPU that takes less time, and neither
    a nor a transposed copy of it is made early and kept. But a sum in a loop is a collective in a loop where the
    batch is sharded: so that is done where there is one device, and what JAX does where there are several.
    """
    if d_w is None:
        return None
    if not one_device(steps, d_w) or not are_known(*jax.tree.leaves(steps)[0].shape):
        return product(plan, left(carry, steps)[1], d_w)
    dtype = d_w.dtype
    push = lambda made_of, d_w: product(plan, left(*made_of)[1], d_w)
    pull = lambda made_of, dz: _sum_of_products(plan, left, *made_of, dz, dtype)
    return linear(push, pull, (carry, steps), d_w, fold=True)


def as_it_is(carry, a):
    """For :func:`weight_product`: a is there already."""
    return carry, a


def one_device(*trees) -> bool:
    """Whether nothing can be sharded: there is one device, no mesh is set, and no array lies on one."""
    on_mesh = any(not jax.typeof(a).sharding.mesh.empty for a in jax.tree.leaves(trees))
    return jax.device_count() == 1 and jax.sharding.get_abstract_mesh().empty and not on_mesh


def _sum_of_products(plan, left, carry, steps, dz, dtype):
    """dz^T a, summed over all steps: [G, in]."""
    _, a = jax.eval_shape(left, carry, steps)
    contracted = tuple(range(a.ndim - 1))

    def block(state, at):
        carry, total = state
        steps, dz = at
        carry, a = left(carry, steps)
        part = jax.lax.dot_general(
            a.astype(dtype),
            dz,
            ((contracted, contracted), ((), ())),
            precision=plan.precision,
            preferred_element_type=total.dtype,
        )
        return (carry, total + part), None

    total = jnp.zeros((a.shape[-1], dz.shape[-1]), accumulation_dtype(dtype))
    rows = math.prod(a.shape[1:-1])
    size = near_divisor(len(dz), max(1, min(1024, max(64, len(dz) * rows // 8)) // max(rows, 1)))
    (_, total), _ = over_blocks(size, block, (carry, total), (steps, dz), reverse=plan.reverse)
    return total.T.astype(dtype)


def step_product(plan, w, like):
    """The function a -> a times w [out, in] inside a loop, for a like ``like [*batch, in]``; None where w is.

    On CPU one row goes fastest along the rows of w as they lie, and several take w transposed, once, out here.
    """
    if w is None:
        return None
    w, axis = (w, 1) if like.ndim == 1 else (w.T, 0)
    return lambda a: _dot(plan, a, w, axis)


def _dot(plan, a, w, axis):
    return jax.lax.dot_general(
        a.astype(w.dtype),
        w,
        (((a.ndim - 1,), (axis,)), ((), ())),
        precision=plan.precision,
        preferred_element_type=accumulation_dtype(w.dtype),
    )
