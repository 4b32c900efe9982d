"""What the linen and the nnx modules share: checks, casts and the two layers around an LSTM, as functions."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jax.sharding import NamedSharding, PartitionSpec

from jax_lstm.lstm import lstm_cell
from jax_lstm.state import LSTMState
from jax_lstm.trees import every_step, vary_alike


def feature_size(x: Any) -> int:
    """D, the last axis of x."""
    if not hasattr(x, "shape") or len(x.shape) < 1:
        raise TypeError(f"x must be an array whose last axis is D; got {type(x).__name__}.")
    return x.shape[-1]


def cast(dtype: Any, tree: Any) -> Any:
    """Floating-point leaves in ``dtype``; None leaves all as they are."""

    def leaf(a):
        return a.astype(dtype) if hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating) else a

    return tree if dtype is None else jax.tree.map(leaf, tree)


def run_cell(params: dict, carry: LSTMState, x: Any, dtype: Any, precision: Any) -> tuple[LSTMState, jax.Array]:
    """One step as Flax's RNN cells return it; the new carry keeps the given carry's dtypes."""
    x, params = cast(dtype, (x, params))
    state = lstm_cell(params, carry, x, precision=precision)
    y = state.h.astype(jnp.result_type(x, *params.values()))
    return LSTMState(state.h.astype(carry.h.dtype), state.c.astype(carry.c.dtype)), y


def zero_carry(input_shape: tuple[int, ...], hidden_size: int, carry_dtype: Any, compute_dtype: Any) -> LSTMState:
    shape = (*input_shape[:-1], hidden_size)
    dtype = carry_dtype or jnp.promote_types(compute_dtype, jnp.float32)
    return LSTMState(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def embed(weight: jax.Array, tokens: Any) -> jax.Array:
    """Rows of ``weight [V, E]`` for tokens int ``[*batch, T]``; one outside 0..V-1 is an error where it is known."""
    if not hasattr(tokens, "dtype") or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens must be an integer array; got {getattr(tokens, 'dtype', type(tokens).__name__)}.")
    if not isinstance(tokens, jax.core.Tracer) and tokens.size:
        known = np.asarray(tokens)
        low, high, last = int(known.min()), int(known.max()), weight.shape[0] - 1
        if low < 0 or high > last:
            raise ValueError(f"tokens must lie between 0 and vocab_size - 1 = {last}; got {low} to {high}.")
    tokens = jnp.asarray(tokens)
    sharding = jax.typeof(tokens).sharding  # on an explicit mesh the rows lie where their tokens do
    sharded = any(axis is not None for axis in sharding.spec)
    out = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, None)) if sharded else None
    return jnp.asarray(weight).at[tokens].get(out_sharding=out)


def linear(weight: jax.Array, bias: jax.Array, x: jax.Array, precision: Any) -> jax.Array:
    """``x [..., in]`` times ``weight [out, in]`` transposed, plus ``bias [out]``."""
    weight, bias, x = vary_alike((weight, bias, x))
    return jnp.matmul(x, weight.T, precision=precision) + every_step(bias, x)


def _state_dict(state: LSTMState) -> dict[str, Any]:
    return {name: serialization.to_state_dict(getattr(state, name)) for name in ("h", "c")}


def _from_state_dict(state: LSTMState, given: dict[str, Any]) -> LSTMState:
    return LSTMState(*(serialization.from_state_dict(getattr(state, n), given[n], name=n) for n in ("h", "c")))


serialization.register_serialization_state(LSTMState, _state_dict, _from_state_dict)


def uniform_init(fan_in: int):
    """U(±1/√fan_in), torch.nn.Linear's initial weights and biases."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)
