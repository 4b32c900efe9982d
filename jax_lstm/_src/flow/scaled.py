"""Arrays with their own exponent, so that the product of a thousand factors below 1 is a small number and not 0.

A `Scaled` is ``value * 2**power`` with one int32 power for the whole array. Powers of two are made from their
bits, so that multiplications are exact: XLA's ``2 ** n`` has a rounding error on some devices.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, DType

NOTHING = -(2**28)  # the power of zero: far below any other, and far from overflow when powers are subtracted


class Scaled(NamedTuple):
    """``value * 2**power``: value of any shape with its largest entry in [1/2, 1), or all zeros; power int32 []."""

    value: Array
    power: Array


def scaled(value: Array, power: Array | int = 0) -> Scaled:
    """Return ``value * 2**power``, normalised. NaN and inf stay NaN and inf."""
    largest = jnp.max(jnp.abs(value), initial=0.0)
    _, exponent = jnp.frexp(largest)
    total = jnp.where(largest == 0, NOTHING, exponent + power).astype(jnp.int32)
    return Scaled(value * _power_of_two(-exponent, value.dtype), total)


def plus(a: Scaled, b: Scaled) -> Scaled:
    """Return a + b. If one is smaller than the other by more than the range of the dtype, it is lost, as in any sum."""
    power = jnp.maximum(a.power, b.power)
    first, second = (s.value * _power_of_two(s.power - power, s.value.dtype) for s in (a, b))
    return scaled(first + second, power)


def log2_norm(a: Scaled) -> Array:
    """Return log2 of the 2-norm over all entries; -inf for zero."""
    return jnp.log2(jnp.sqrt(jnp.sum(a.value * a.value))) + a.power.astype(a.value.dtype)


def _power_of_two(n: Array, dtype: DType) -> Array:
    """Return 2**n exactly. n is clipped to the normal range of ``dtype``."""
    info = jnp.finfo(dtype)
    integer = jnp.dtype(f"int{info.bits}")
    n = jnp.clip(n, info.minexp, info.maxexp - 1).astype(integer)
    return jax.lax.bitcast_convert_type((n - info.minexp + 1) << info.nmant, dtype)
