"""Which dtype a call computes in, and which one it accumulates and carries in.

JAX's own ``promote_types`` follows ``jax.numpy_dtype_promotion``: in "strict" mode it refuses bfloat16 beside float32.
A wider accumulator is no implicit promotion of the caller's arrays, so the rules here do not depend on that mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def compute_dtype(x: Any, params: Mapping[str, Any]) -> jnp.dtype:
    """Return the result type of x and all weights. In "strict" mode JAX raises if these differ."""
    return jnp.dtype(jnp.result_type(x, *params.values()))


def widest_dtype(*dtypes: Any) -> jnp.dtype:
    """Return the floating-point dtype that holds all of ``dtypes``."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(jnp.result_type(*dtypes))


def accumulation_dtype(*dtypes: Any) -> jnp.dtype:
    """Return the widest of the floating-point ``dtypes``, and float32 if all are narrower."""
    return widest_dtype(jnp.float32, *dtypes)


def carry_dtype_of(asked: Any, *dtypes: Any) -> jnp.dtype:
    """Return the dtype of a carried state: the one that is asked for, or :func:`accumulation_dtype`."""
    return jnp.dtype(asked) if asked is not None else accumulation_dtype(*dtypes)
