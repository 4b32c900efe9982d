"""Arrays with an exponent of their own, so that a thousand factors below 1 make a small number and not 0.

A :class:`Scaled` is ``value * 2**power`` with one int32 power for the whole array. Powers of two are made from their
bits and so multiply exactly; the powers of XLA's own ``2 ** n`` are off by a rounding on some devices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = Any
NOTHING = -(2**28)  # the power of zero: far below any other, and far from overflow when powers are subtracted


class Scaled(NamedTuple):
    """value: an array of any shape whose largest entry lies in [1/2, 1), or all zeros. power: int32 [], of two."""

    value: Array
    power: Array


def scaled(value: Array, power: Array | int = 0) -> Scaled:
    """``value * 2**power``, normalised. NaN and inf stay what they are."""
    largest = jnp.max(jnp.abs(value), initial=0.0)
    _, exponent = jnp.frexp(largest)
    total = jnp.where(largest == 0, NOTHING, exponent + power).astype(jnp.int32)
    return Scaled(value * _power_of_two(-exponent, value.dtype), total)


def plus(a: Scaled, b: Scaled) -> Scaled:
    """a + b. What lies below the other by more than the dtype's range is lost, as in any sum."""
    power = jnp.maximum(a.power, b.power)
    parts = (s.value * _power_of_two(s.power - power, s.value.dtype) for s in (a, b))
    return scaled(sum(parts), power)


def log2_norm(a: Scaled) -> Array:
    """log2 of the 2-norm over all entries; -inf for zero."""
    return jnp.log2(jnp.sqrt(jnp.sum(a.value * a.value))) + a.power.astype(a.value.dtype)


def _power_of_two(n: Array, dtype: Any) -> Array:
    """2**n exactly, for n within the normal range of ``dtype``; n is clipped to it."""
    info = jnp.finfo(dtype)
    integer = jnp.dtype(f"int{info.bits}")
    n = jnp.clip(n, info.minexp, info.maxexp - 1).astype(integer)
    return jax.lax.bitcast_convert_type((n - info.minexp + 1) << info.nmant, dtype)
