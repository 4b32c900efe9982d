"""One step of one layer outside a loop, for any cell: its checks, its state and its products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm._src.checks import require_floating, require_floating_dtype, require_state
from jax_lstm._src.dtypes import accumulation_dtype, carry_dtype_of, compute_dtype
from jax_lstm._src.network import Network

Params = Mapping[str, Any]


def check_step_input(x: Any, network: Network) -> None:
    """Raise TypeError or ValueError unless x is ``[*batch, D]``."""
    require_floating("x", x, "[*batch, D]")
    if x.ndim < 1 or x.shape[-1] != network.input_size:
        raise ValueError(f"x must be [*batch, D] with D = {network.input_size}; got shape {tuple(x.shape)}.")


def zeros_for(params: Params, x: Any, width: int) -> jax.Array:
    """Return a state of zeros ``[*batch, width]`` for x ``[*batch, D]``."""
    return jnp.zeros((*x.shape[:-1], width), accumulation_dtype(compute_dtype(x, params)))


def checked_state(name: str, value: Any, x: Any, width: int) -> jax.Array:
    """Return a state ``[*batch, width]`` for x ``[*batch, D]``; a batch axis of 1 stands for the whole batch."""
    require_state(name, value, "[*batch, width]", (*x.shape[:-1], width), slice(0, -1))
    return jnp.asarray(value)


def next_dtype(asked: Any, params: Params, x: Any, *states: jax.Array) -> jnp.dtype:
    """Return the dtype of the next state: what is asked for, or the widest that takes part, at least float32."""
    if asked is not None:
        require_floating_dtype("carry_dtype", asked)
    return carry_dtype_of(asked, compute_dtype(x, params), *(state.dtype for state in states))


def gate_sums(params: Params, x: Any, h: Any, precision: Any) -> jax.Array:
    """Return every gate's sum, ``[*batch, G]``, accumulated in at least float32."""
    z = step_product(params, x, x, "weight_ih", precision) + step_product(params, x, h, "weight_hh", precision)
    for name in ("bias_ih", "bias_hh"):
        if name in params:
            z = z + jnp.reshape(params[name], (*(1,) * (z.ndim - 1), -1)).astype(z.dtype)
    return z


def step_product(params: Params, x: Any, a: Any, name: str, precision: Any) -> jax.Array:
    """Return ``a`` times the transpose of one weight in the compute dtype, as in the loop over time."""
    dtype = compute_dtype(x, params)
    weight = jnp.asarray(params[name], dtype).T
    return jnp.matmul(
        jnp.asarray(a, dtype), weight, precision=precision, preferred_element_type=accumulation_dtype(dtype)
    )
