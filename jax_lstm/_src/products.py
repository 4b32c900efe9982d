"""The matrix products of the recurrence: over all steps at once, and of one step inside a loop.

Sums are accumulated in at least float32, and every product has the caller's precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, overload

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, DType, Gates, Tree
from jax_lstm._src.blocks import are_known, near_divisor, over_blocks
from jax_lstm._src.custom_transpose import call_with_transpose
from jax_lstm._src.dtypes import accumulation_dtype
from jax_lstm._src.plan import Plan, Weights
from jax_lstm._src.platforms import RULES, LoopForm, is_for_one_device, per_platform
from jax_lstm._src.trees import broadcast_bias, split_gates

# Rows (steps times batch) of one block in the sum of a weight gradient, see `_sum_of_products`. Measured with JAX 0.10
# on two CPU cores, a training step in float32: T,B,D,H = 10,2,300,256 takes 1.2 ms, and 2.6 ms with FEWEST_ROWS = 1.
# 1000,16,128,128 takes 151 ms, and 156 ms with MOST_ROWS = 256. MOST_ROWS = 4096 gains nothing.
FEWEST_ROWS = 64  # fewer rows make small products, which do not use a core fully
MOST_ROWS = 1024  # more rows leave the cache: 1024 rows of 256 float32 numbers are 1 MiB
FEWEST_ROW_BLOCKS = 8  # the block's own arrays are then at most an eighth of the sequence's


def input_sums(plan: Plan, form: LoopForm, x: Array, weights: Weights) -> Gates:
    """Return the part of the gate sums that needs no loop, of all steps of a block: x times W_ih, plus the bias."""
    if not form.gates_apart:
        return add_bias(plan, product(plan, x, weights.ih), weights.bias)
    parts = tuple(product(plan, x, w) for w in jnp.split(weights.ih, plan.cell.num_gates))
    return add_bias(plan, parts, weights.bias)


def add_bias(plan: Plan, sums: Gates | Array, bias: Array | None) -> Gates:
    """Return the sums of each gate plus its part of the bias."""
    parts = sums if isinstance(sums, tuple) else split_gates(plan.cell, sums)
    if bias is None:
        return parts
    return tuple(map(jnp.add, parts, split_gates(plan.cell, broadcast_bias(bias, parts[0]))))


@overload
def product(plan: Plan, a: Array, w: Array) -> Array: ...
@overload
def product(plan: Plan, a: Array | None, w: Array | None) -> Array | None: ...
def product(plan: Plan, a: Array | None, w: Array | None) -> Array | None:
    """Return a ``[..., in]`` times the transpose of w ``[out, in]``, over all steps at once; None if either is None."""
    return None if a is None or w is None else _dot(plan, a, w, 1)


def weight_product(
    plan: Plan, left: Callable[[Any, Any], tuple[Any, Array]], carry: Tree, steps: Tree, d_w: Array | None
) -> Array | None:
    """Return `product` of ``a`` and ``d_w``, the tangent of a weight, for ``carry, a = left(carry, steps)``.

    Its transpose is the weight gradient, ``dz^T a``. On one CPU the gradient is summed over blocks of steps, and
    ``left`` makes the ``a`` of one block at a time. Elsewhere it is one product, as JAX would do it.

    Why blocks: neither ``a`` nor a transposed copy of it is then made early and kept. Measured on CPU with JAX 0.10,
    the temporary memory of a training step with T = 512, B = 16, H = 256 in float32: 52 MiB with blocks, 72 MiB with
    one product. Why not on several devices: if the batch is sharded, a sum in a loop is a collective in a loop. Why not
    on TPU and GPU: their compilers need no such copy, and count fewer cycles for the one product. Delete the blocks
    when XLA on CPU needs no copy of ``a`` any more.
    """
    if d_w is None:
        return None
    if _is_on_mesh(steps, d_w) or not are_known(*jax.tree.leaves(steps)[0].shape):
        return product(plan, left(carry, steps)[1], d_w)
    shape, dtype = jax.ShapeDtypeStruct(d_w.shape, d_w.dtype), d_w.dtype
    push = lambda sources, d_w: product(plan, left(*sources)[1], d_w)

    def pull_at_once(sources: Any, dz: Array) -> Array:
        (d_w,) = jax.linear_transpose(partial(push, sources), shape)(dz)
        return d_w

    def pull(sums: bool, sources: Any, dz: Array) -> Array:
        if not sums:
            return pull_at_once(sources, dz)
        in_blocks = partial(_sum_of_products, plan, left, dtype)
        return jax.lax.cond(is_for_one_device(), in_blocks, pull_at_once, sources, dz)

    forms = {platform: rule.sums_weight_gradients for platform, rule in RULES.items()}
    pull_on_platform = lambda sources, dz: per_platform(pull, forms, sources, dz)
    total: Array = call_with_transpose(push, pull_on_platform, (carry, steps), d_w, fold=True)
    return total


def as_it_is(carry: Tree, a: Array) -> tuple[Tree, Array]:
    """Return the arguments: the ``left`` of `weight_product` if ``a`` exists already."""
    return carry, a


def _is_on_mesh(*trees: Tree) -> bool:
    """Return whether the types say that arrays are sharded: a mesh is set, or an array lies on one."""
    lies_on_mesh = any(not jax.typeof(a).sharding.mesh.empty for a in jax.tree.leaves(trees))
    return lies_on_mesh or not jax.sharding.get_abstract_mesh().empty


def _sum_of_products(
    plan: Plan,
    left: Callable[[Any, Any], tuple[Any, Array]],
    dtype: DType,
    sources: tuple[Tree, Tree],
    dz: Array,
) -> Array:
    """Return dz^T a, summed over all steps: ``[G, in]``.

    The sum is held as its transpose, ``[in, G]``: a^T dz reads a and dz as they lie, and only the total is transposed.
    """
    carry, steps = sources
    _, a = jax.eval_shape(left, carry, steps)
    contracted = tuple(range(a.ndim - 1))

    def block(state: tuple[Tree, Array], inputs: tuple[Tree, Array]) -> tuple[tuple[Tree, Array], None]:
        carry, total = state
        steps, dz = inputs
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
    rows_of_step = math.prod(a.shape[1:-1])
    rows = min(MOST_ROWS, max(FEWEST_ROWS, len(dz) * rows_of_step // FEWEST_ROW_BLOCKS))
    size = near_divisor(len(dz), max(1, rows // max(rows_of_step, 1)))
    (_, total), _ = over_blocks(size, block, (carry, total), (steps, dz), reverse=plan.reverse)
    return total.T.astype(dtype)


@overload
def loop_product(plan: Plan, w: Array, like: Array) -> Callable[[Array], Array]: ...
@overload
def loop_product(plan: Plan, w: Array | None, like: Array) -> Callable[[Array], Array] | None: ...
def loop_product(plan: Plan, w: Array | None, like: Array) -> Callable[[Array], Array] | None:
    """Return the function a -> a times the transpose of w ``[out, in]``, for use inside a loop; None if w is None.

    Why two layouts: on CPU, a product of one row (``like [in]``) is fastest along the rows of w as they lie. A product
    of several rows is faster with w transposed, and the transposition happens here, once, before the loop. Measured
    with JAX 0.10 on two CPU cores, forward in float32: T,B,D,H = 500,2,64,64 takes 1.3 ms with w transposed and 2.1 ms
    without; 300,1,256,256 takes 6.8 ms and 5.7 ms. Delete the distinction when XLA on CPU chooses the layout of a
    loop-invariant weight by itself.
    """
    if w is None:
        return None
    weight, axis = (w, 1) if like.ndim == 1 else (w.T, 0)
    return lambda a: _dot(plan, a, weight, axis)


def _dot(plan: Plan, a: Array, w: Array, axis: int) -> Array:
    return jax.lax.dot_general(
        a.astype(w.dtype),
        w,
        (((a.ndim - 1,), (axis,)), ((), ())),
        precision=plan.precision,
        preferred_element_type=accumulation_dtype(w.dtype),
    )
