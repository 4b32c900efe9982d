"""What a precision allows in the products of a GPU or a TPU, in all the spellings that JAX takes."""

from __future__ import annotations

from typing import Any

import jax

from jax_lstm._src.arrays import Precision

PRESETS_WITH_TF32 = {"DEFAULT": True, "TF32_TF32_F32": True, "F32_F32_F32": False}


def resolve_precision(precision: Precision) -> Any:
    """Return a precision, or jax_default_matmul_precision if it is None."""
    return jax.config.jax_default_matmul_precision if precision is None else precision  # type: ignore[attr-defined]


def allows_tf32(precision: Precision) -> bool | None:
    """Return whether a precision lets float32 products use TF32 on a GPU, or None if it is neither float32 nor TF32.

    A precision of None stands for jax_default_matmul_precision. If that is None too, XLA uses TF32.
    """
    resolved = resolve_precision(precision)
    each = resolved if isinstance(resolved, (tuple, list)) else (resolved,)
    answers = [_allows_tf32(one) for one in each]
    return None if None in answers else all(answers)


def _allows_tf32(precision: Any) -> bool | None:
    if precision is None:
        return True
    if isinstance(precision, jax.lax.DotAlgorithmPreset):
        return PRESETS_WITH_TF32.get(precision.name)
    try:
        return jax.lax.Precision(precision) is not jax.lax.Precision.HIGHEST
    except ValueError:  # not the name of a Precision
        return PRESETS_WITH_TF32.get(precision) if isinstance(precision, str) else None


def as_one_precision(precision: Precision) -> jax.lax.Precision | None:
    """Return the jax.lax.Precision that both factors of a product have, or None if it is no such value.

    A precision of None stands for jax_default_matmul_precision. If that is None too, the platform decides.
    """
    resolved = resolve_precision(precision)
    each = set(resolved) if isinstance(resolved, (tuple, list)) else {resolved}
    try:
        (one,) = {jax.lax.Precision(name) for name in each}
    except ValueError:  # two different ones, or not the name of a Precision
        return None
    return one


def has_algorithm(precision: Precision) -> bool:
    """Return whether a precision is an algorithm of products, and not one or two of jax.lax.Precision."""
    resolved = resolve_precision(precision)
    each = resolved if isinstance(resolved, (tuple, list)) else (resolved,)
    return any(as_one_precision(one) is None for one in each)
