"""One call of a single cell, outside a loop: its checks, its state and its products."""

from __future__ import annotations

import jax.numpy as jnp

from jax_lstm._src.arrays import Abstract, Array, ArrayLike, DType, DTypeLike, Params, Precision
from jax_lstm._src.cell import Cell
from jax_lstm._src.cell_step import next_state
from jax_lstm._src.checks import require_floating, require_floating_dtype, require_state
from jax_lstm._src.dtypes import accumulation_dtype, carry_dtype_of, compute_dtype
from jax_lstm._src.network import Network
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import split_gates, vary_alike


def run_cell(
    cell: Cell,
    network: Network,
    params: Params,
    state: LSTMState | None,
    x: ArrayLike,
    carry_dtype: DTypeLike | None,
    precision: Precision,
) -> LSTMState:
    """Check the arguments of `jax_lstm.lstm_cell` or `jax_lstm.rnn_cell`, and return the next state."""
    check_step_input(x, network)
    params, inputs = vary_alike((dict(params), jnp.asarray(x)))
    h, c = _state_or_zeros(cell, network, params, state, inputs)
    states = [a for a in (h, c) if a is not None]
    carry = _next_dtype(carry_dtype, params, inputs, *states)
    sums = split_gates(cell, gate_sums(params, inputs, h, precision))
    project = None
    if "weight_hr" in params:
        project = lambda m: _times_weight(params, inputs, m, "weight_hr", precision)
    return next_state(cell, sums, c, project, carry)[1]


def check_step_input(x: Abstract, network: Network) -> None:
    """Raise TypeError or ValueError unless x is ``[*batch, D]``."""
    require_floating("x", x, "[*batch, D]")
    if x.ndim < 1 or x.shape[-1] != network.input_size:
        raise ValueError(f"x must be [*batch, D] with D = {network.input_size}; got shape {tuple(x.shape)}.")


def gate_sums(params: Params, x: Array, h: Array, precision: Precision) -> Array:
    """Return the sum inside every gate, ``[*batch, G]``, accumulated in at least float32."""
    z = _times_weight(params, x, x, "weight_ih", precision) + _times_weight(params, x, h, "weight_hh", precision)
    for name in ("bias_ih", "bias_hh"):
        if name in params:
            z = z + jnp.reshape(params[name], (*(1,) * (z.ndim - 1), -1)).astype(z.dtype)
    return z


def _state_or_zeros(
    cell: Cell, network: Network, params: Params, state: LSTMState | None, x: Array
) -> tuple[Array, Array | None]:
    """Return h ``[*batch, P]`` and c ``[*batch, H]`` or None: zeros, or the given state after its checks."""
    if state is None:
        zeros = lambda width: jnp.zeros((*x.shape[:-1], width), accumulation_dtype(compute_dtype(x, params)))
        return zeros(network.output_size), zeros(network.hidden_size) if cell.has_cell_state else None
    if not cell.has_cell_state:
        return _checked_state("h", state.h, x, network.output_size), None
    h = _checked_state("state.h", state.h, x, network.output_size)
    return h, _checked_state("state.c", state.c, x, network.hidden_size)


def _checked_state(name: str, value: ArrayLike, x: Array, width: int) -> Array:
    """Return a state ``[*batch, width]`` for x ``[*batch, D]``. A batch axis of 1 stands for the whole batch."""
    require_state(name, value, "[*batch, width]", (*x.shape[:-1], width), slice(0, -1))
    return jnp.asarray(value)


def _next_dtype(requested: DTypeLike | None, params: Params, x: Array, *states: Array) -> DType:
    """Return the dtype of the next state: the requested one, or the widest of all operands, at least float32."""
    if requested is not None:
        require_floating_dtype("carry_dtype", requested)
    return carry_dtype_of(requested, compute_dtype(x, params), *(state.dtype for state in states))


def _times_weight(params: Params, x: Array, a: Array, name: str, precision: Precision) -> Array:
    """Return ``a`` times the transpose of one weight, in the compute dtype, as in the loop over time."""
    dtype = compute_dtype(x, params)
    weight = jnp.asarray(params[name], dtype).T
    return jnp.matmul(
        jnp.asarray(a, dtype), weight, precision=precision, preferred_element_type=accumulation_dtype(dtype)
    )
