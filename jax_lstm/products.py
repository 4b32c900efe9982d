"""The recurrence's matrix products: over all steps at once, and of one step inside a loop.

Sums are accumulated in at least float32, and every product takes the caller's precision.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_lstm.linear import linear


def product(plan, a, w):
    """a [..., in] times w [out, in] over all steps at once; None where either is None."""
    return None if a is None or w is None else _dot(plan, a, w, 1)


def weight_product(plan, a, d_w):
    """:func:`product` where d_w is the tangent of a weight, and what counts is the transpose: d_w from a and dz.

    JAX would make dz^T a of it; a^T dz, transposed afterwards and behind a barrier so that XLA does not merge the two
    again, takes 1.3 to 2 times less on CPU. Where an axis of a mesh is explicit or manual JAX keeps doing it.
    """
    if a is None or d_w is None or not jax.sharding.get_abstract_mesh().empty:
        return product(plan, a, d_w)

    def pull(a, dz):
        time_and_batch = tuple(range(a.ndim - 1))
        transposed = jax.lax.dot_general(
            a.astype(d_w.dtype),
            dz,
            ((time_and_batch, time_and_batch), ((), ())),
            precision=plan.precision,
            preferred_element_type=d_w.dtype,
        )
        return jax.lax.optimization_barrier(transposed).T

    return linear(lambda a, d_w: product(plan, a, d_w), pull, a, d_w, fold=True)


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
