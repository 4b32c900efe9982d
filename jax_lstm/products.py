"""The recurrence's matrix products: over all steps at once, and of one step inside a loop.

Sums are accumulated in at least float32, and every product takes the caller's precision.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jax_lstm.blocks import are_known, near_divisor, over_blocks
from jax_lstm.linear import linear


def product(plan, a, w):
    """a [..., in] times w [out, in] over all steps at once; None where either is None."""
    return None if a is None or w is None else _dot(plan, a, w, 1)


def weight_product(plan, a, d_w):
    """:func:`product` where d_w is the tangent of a weight, and what counts is the transpose: d_w from a and dz.

    JAX would make one product dz^T a of it. Summed over blocks of steps, a^T dz, it takes 1.3 to 2 times less on CPU,
    and no transposed copy of a is made early and kept. But a sum in a loop is a collective in a loop where the batch
    is sharded: so that is done where there is one device, and what JAX does where there are several.
    """
    if a is None or d_w is None or not one_device() or not are_known(*a.shape):
        return product(plan, a, d_w)
    pull = lambda a, dz: _sum_of_products(plan, a.astype(d_w.dtype), dz, d_w.dtype)
    return linear(lambda a, d_w: product(plan, a, d_w), pull, a, d_w, fold=True)


def one_device() -> bool:
    """Whether nothing can be sharded: one device in all, and no mesh."""
    return jax.device_count() == 1 and jax.sharding.get_abstract_mesh().empty


def _sum_of_products(plan, a, dz, dtype):
    """dz^T a, summed over all steps: [G, in]."""
    steps, *batch = a.shape[:-1]
    contracted = tuple(range(a.ndim - 1))

    def block(total, at):
        part = jax.lax.dot_general(
            *at, ((contracted, contracted), ((), ())), precision=plan.precision, preferred_element_type=total.dtype
        )
        return total + part, None

    total = jnp.zeros((a.shape[-1], dz.shape[-1]), jnp.promote_types(dtype, jnp.float32))
    rows = math.prod(batch)
    size = near_divisor(steps, max(1, min(1024, max(64, steps * rows // 8)) // max(rows, 1)))
    return over_blocks(size, block, total, (a, dz), reverse=False)[0].T.astype(dtype)


def step_product(plan, a, w):
    """a [*batch, in] times w [in, out]: inside a loop, with the transpose taken once outside (faster on CPU)."""
    return _dot(plan, a, w, 0)


def transposed_step_product(plan, a, w):
    """a [*batch, in] times w [out, in]: inside a loop that runs its transpose, for which w lies right as it is."""
    return _dot(plan, a, w, 1)


def _dot(plan, a, w, axis):
    return jax.lax.dot_general(
        a.astype(w.dtype),
        w,
        (((a.ndim - 1,), (axis,)), ((), ())),
        precision=plan.precision,
        preferred_element_type=jnp.promote_types(w.dtype, jnp.float32),
    )
