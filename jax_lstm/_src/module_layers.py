"""The two layers around an LSTM in a SequenceModel, an embedding and a dense layer, as functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Precision
from jax_lstm._src.trees import broadcast_bias, vary_alike


def embed(weight: Array, tokens: ArrayLike) -> Array:
    """Return the rows of ``weight [V, E]`` for tokens int ``[*batch, T]``.

    Raises:
      TypeError: tokens are not integers.
      ValueError: a token lies outside 0 to V - 1. Under jit, values are unknown, and it is not checked.
    """
    if not hasattr(tokens, "dtype") or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens must be an integer array; got {getattr(tokens, 'dtype', type(tokens).__name__)}.")
    if not isinstance(tokens, jax.core.Tracer) and tokens.size:
        known = np.asarray(tokens)
        low, high, last = int(known.min()), int(known.max()), weight.shape[0] - 1
        if low < 0 or high > last:
            raise ValueError(f"tokens must lie between 0 and vocab_size - 1 = {last}; got {low} to {high}.")
    tokens = jnp.asarray(tokens)
    sharding = jax.typeof(tokens).sharding  # on an explicit mesh, the rows are sharded as their tokens
    sharded = any(axis is not None for axis in sharding.spec)
    out = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, None)) if sharded else None
    return jnp.asarray(weight).at[tokens].get(out_sharding=out)


def dense(weight: Array, bias: Array, x: Array, precision: Precision) -> Array:
    """Return ``x [..., in]`` times the transpose of ``weight [out, in]``, plus ``bias [out]``."""
    weight, bias, x = vary_alike((weight, bias, x))
    return jnp.matmul(x, weight.T, precision=precision) + broadcast_bias(bias, x)


def uniform_init(fan_in: int) -> Callable[[Array, tuple[int, ...], DTypeLike], Array]:
    """Return an initialiser by U(±1/√fan_in), as torch.nn.Linear draws its weights and biases."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)
