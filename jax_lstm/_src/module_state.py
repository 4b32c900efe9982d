"""The state of a Flax module: its dtype, its zeros, one step of a cell, and how Flax serializes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from flax import serialization

from jax_lstm._src.arrays import Abstract, Array, DType, DTypeLike, Params, Precision
from jax_lstm._src.dtypes import carry_dtype_of, cast_floating, compute_dtype
from jax_lstm._src.lstm import lstm_cell
from jax_lstm._src.state import LSTMState


def step_of_cell(
    params: Params, state: LSTMState, x: Array, carry_dtype: DTypeLike, precision: Precision
) -> tuple[LSTMState, Array]:
    """Return the next state in ``carry_dtype``, and its h in the result type of x and the weights."""
    y_dtype = compute_dtype(x, params)
    state = lstm_cell(params, state, x, precision=precision)
    return cast_floating(state, carry_dtype), state.h.astype(y_dtype)


def state_dtype(
    carry_dtype: DTypeLike | None, dtype: DTypeLike | None, weights: Iterable[Abstract], param_dtype: DTypeLike
) -> DType:
    """Return the dtype of the zero state of a module.

    It is ``carry_dtype``, or else the dtype of the computation, or float32 if that is narrower. The dtype of the
    computation is ``dtype``, or else that of the ``weights`` if there are any, or else ``param_dtype``.
    """
    known = [weight.dtype for weight in weights]
    return carry_dtype_of(carry_dtype, *([dtype] if dtype is not None else known or [param_dtype]))


def zero_carry(input_shape: tuple[int, ...], hidden_size: int, dtype: DTypeLike) -> LSTMState:
    """Return a state of zeros ``[*batch, H]`` for inputs of shape ``[*batch, D]``."""
    shape = (*input_shape[:-1], hidden_size)
    return LSTMState(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def _to_state_dict(state: LSTMState) -> dict[str, Any]:
    return {name: serialization.to_state_dict(getattr(state, name)) for name in ("h", "c")}


def _from_state_dict(state: LSTMState, restored: dict[str, Any]) -> LSTMState:
    return LSTMState(*(serialization.from_state_dict(getattr(state, n), restored[n], name=n) for n in ("h", "c")))


serialization.register_serialization_state(LSTMState, _to_state_dict, _from_state_dict)
