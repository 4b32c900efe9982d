"""The Jacobian of one step, J = ds_t / ds_{t-1}, as a linear map with its transpose and its inverse.

The matrix J is never formed. The state s is h for an RNN, [H], and (h, c) joined for an LSTM, [2H]. The forward map is
`Cell.tangent`, and the backward map its transpose. The inverse is equally cheap, because one matrix serves all steps:

    RNN     dh' = φ' ∘ (W_hh dh)                       dh = W_hh^-1 (dh' / φ')
    LSTM    dh' = p ∘ (W_ho dh) + q ∘ dc'              dh = W_ho^-1 ((dh' - q ∘ dc') / p)
            dc' = f ∘ dc + (the rest, of dh)           dc = (dc' - the rest) / f

with p = d h' / d z_o and q = d h' / d c', the last two of the LSTM's `Cell.slopes`. J is singular, and its smallest
singular value 0, exactly if one of the divisors is 0 or the matrix has no inverse.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Gates, Precision
from jax_lstm._src.cell import GATE_ORDER, Cell


class Recurrent(NamedTuple):
    """The weights of a Jacobian: w_hh ``[G, H]``, and the inverse ``[H, H]`` of W_hh (RNN) or W_ho (LSTM)."""

    w_hh: Array
    inverse: Array


class CellFactors(NamedTuple):
    """The slopes of an LSTM that this package needs by name, each ``[..., H]``."""

    forget: Array  # d c' / d c
    by_output_sum: Array  # d h' / d z_o
    output_slope: Array  # d h' / d c'


def cell_factors(coefficients: Gates) -> CellFactors:
    """Return the factors among the coefficients of an LSTM."""
    _, _, _, forget, by_output_sum, output_slope = coefficients
    return CellFactors(forget, by_output_sum, output_slope)


def recurrent(cell: Cell, w_hh: Array) -> Recurrent:
    """Return the weights of a Jacobian. Zeros replace the inverse of a singular matrix, see `is_invertible`."""
    square = w_hh
    if cell.has_cell_state:
        square = jnp.split(w_hh, cell.num_gates)[GATE_ORDER.index("o")]
    inverse = jnp.linalg.inv(square)
    return Recurrent(w_hh, jnp.where(jnp.all(jnp.isfinite(inverse)), inverse, 0.0))


def forward(cell: Cell, weights: Recurrent, coefficients: Gates, ds: Array, precision: Precision = None) -> Array:
    """Return J ds."""
    dh, dc = _parts(cell, ds)
    dz = jnp.matmul(weights.w_hh, dh, precision=precision)
    return _joined(*cell.tangent(coefficients, tuple(jnp.split(dz, cell.num_gates)), dc))


def backward(cell: Cell, weights: Recurrent, coefficients: Gates, ds: Array, precision: Precision = None) -> Array:
    """Return J^T ds."""
    back: Array = jax.linear_transpose(lambda a: forward(cell, weights, coefficients, a, precision), ds)(ds)[0]
    return back


def inverse(cell: Cell, weights: Recurrent, coefficients: Gates, ds: Array, precision: Precision = None) -> Array:
    """Return J^-1 ds. Call it only if `is_invertible`."""
    dh, dc = _parts(cell, ds)
    if not cell.has_cell_state:
        return jnp.matmul(weights.inverse, dh / coefficients[0], precision=precision)
    assert dc is not None
    factors = cell_factors(coefficients)
    sums = (dh - factors.output_slope * dc) / factors.by_output_sum
    before = jnp.matmul(weights.inverse, sums, precision=precision)
    _, rest = jnp.split(forward(cell, weights, coefficients, _joined(before, jnp.zeros_like(dc)), precision), 2)
    return _joined(before, (dc - rest) / factors.forget)


def inverse_backward(
    cell: Cell, weights: Recurrent, coefficients: Gates, ds: Array, precision: Precision = None
) -> Array:
    """Return J^-T ds."""
    back: Array = jax.linear_transpose(lambda a: inverse(cell, weights, coefficients, a, precision), ds)(ds)[0]
    return back


def is_invertible(cell: Cell, weights: Recurrent, coefficients: Gates) -> Array:
    """Return bool []: whether no divisor is zero and the matrix has an inverse."""
    return jnp.all(jnp.stack(_divisors(cell, coefficients)) != 0) & jnp.any(weights.inverse != 0)


def _divisors(cell: Cell, coefficients: Gates) -> Gates:
    if not cell.has_cell_state:
        return (coefficients[0],)
    factors = cell_factors(coefficients)
    return factors.by_output_sum, factors.forget


def _parts(cell: Cell, ds: Array) -> tuple[Array, Array | None]:
    if not cell.has_cell_state:
        return ds, None
    dh, dc = jnp.split(ds, 2)
    return dh, dc


def _joined(dh: Array, dc: Array | None) -> Array:
    return dh if dc is None else jnp.concatenate((dh, dc))
