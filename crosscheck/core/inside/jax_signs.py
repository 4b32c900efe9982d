"""The signs of `crosscheck.core.signs` inside a JAX program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from crosscheck.core.signs import FIRST, SECOND


def signs_in_jax(a: jax.Array, seed: Any) -> jax.Array:
    """Return +1.0 or −1.0 per number of a float64 array; ``seed`` is a uint64, and may be traced."""
    bits = (jax.lax.bitcast_convert_type(a, jnp.uint64) ^ seed) * jnp.uint64(FIRST)
    bits = (bits ^ (bits >> jnp.uint64(31))) * jnp.uint64(SECOND)
    return 1.0 - 2.0 * (bits >> jnp.uint64(63)).astype(jnp.float64)
