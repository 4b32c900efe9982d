"""The dtype that a call computes in, and the dtype that it accumulates and carries in.

JAX's ``promote_types`` follows ``jax.numpy_dtype_promotion``: in "strict" mode it refuses bfloat16 beside float32. To
accumulate in a wider dtype is no implicit promotion of the caller's arrays. Therefore the rules here do not depend on
that mode.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Abstract, DType, DTypeLike, Params, Tree


def compute_dtype(x: Abstract, params: Params) -> DType:
    """Return the result type of x and all weights. In "strict" mode JAX raises if they differ."""
    return jnp.dtype(jnp.result_type(x, *params.values()))


def widest_dtype(*dtypes: DTypeLike) -> DType:
    """Return the floating-point dtype that holds all of ``dtypes``."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(jnp.result_type(*dtypes))


def accumulation_dtype(*dtypes: DTypeLike) -> DType:
    """Return the widest of the floating-point ``dtypes``, or float32 if all are narrower."""
    return widest_dtype(jnp.float32, *dtypes)


def carry_dtype_of(requested: DTypeLike | None, *dtypes: DTypeLike) -> DType:
    """Return the dtype of a carried state: the requested one, or else `accumulation_dtype`."""
    return jnp.dtype(requested) if requested is not None else accumulation_dtype(*dtypes)


def storage_dtype(dtype: DTypeLike) -> DType:
    """Return the dtype in which h, the gates and the cotangents of the gate sums of all steps are kept.

    It is the dtype of the computation. Every product rounds its factors to that dtype anyway. float16 is the exception:
    its range is too small for cotangents, which would become zero. They are kept in float32.
    """
    return jnp.dtype(jnp.float32) if jnp.dtype(dtype) == jnp.float16 else jnp.dtype(dtype)


def cast_floating(tree: Tree, dtype: DTypeLike | None) -> Tree:
    """Return the tree with its floating-point arrays in ``dtype``. If ``dtype`` is None, the tree stays as it is."""

    def cast(leaf: Any) -> Any:
        is_floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if is_floating else leaf

    return tree if dtype is None else jax.tree.map(cast, tree)
