"""One step's Jacobian J = ds_t / ds_{t-1} as a linear map, with its transpose and its inverse; never formed.

The state s is h for an RNN, [H], and (h, c) joined for an LSTM, [2H]. Forward it is `Cell.tangent`, backward its
transpose. The inverse is as cheap, because one matrix serves all steps:

    RNN     dh' = φ' ∘ (W_hh dh)                       dh = W_hh^-1 (dh' / φ')
    LSTM    dh' = p ∘ (W_ho dh) + q ∘ dc'              dh = W_ho^-1 ((dh' - q ∘ dc') / p)
            dc' = f ∘ dc + (the rest, of dh)           dc = (dc' - the rest) / f

with p = d h' / d z_o and q = d h' / d c', the last two of the LSTM's `Cell.slopes`. J is singular, and its smallest
singular value 0, exactly where one of the divisors is 0 or the matrix has no inverse.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.cell import GATE_ORDER, Cell

Array = Any


class Recurrent(NamedTuple):
    """The weights that a Jacobian is made of. w_hh [G, H]; inverse [H, H]: of W_hh (RNN) or W_ho (LSTM)."""

    w_hh: Array
    inverse: Array


class CellFactors(NamedTuple):
    """Of an LSTM's slopes those that this package needs by name, each [..., H]."""

    forget: Array  # d c' / d c
    by_output_sum: Array  # d h' / d z_o
    output_slope: Array  # d h' / d c'


def cell_factors(coefficients: tuple[Array, ...]) -> CellFactors:
    _, _, _, forget, by_output_sum, output_slope = coefficients
    return CellFactors(forget, by_output_sum, output_slope)


def recurrent(cell: Cell, w_hh: Array) -> Recurrent:
    """Zeros stand in for the inverse of a singular matrix; :func:`is_invertible` knows them."""
    square = w_hh
    if cell.has_cell_state:
        square = jnp.split(w_hh, cell.num_gates)[GATE_ORDER.index("o")]
    inverse = jnp.linalg.inv(square)
    return Recurrent(w_hh, jnp.where(jnp.all(jnp.isfinite(inverse)), inverse, 0.0))


def forward(cell: Cell, weights: Recurrent, coefficients: tuple[Array, ...], ds: Array, precision=None) -> Array:
    """J ds."""
    dh, dc = _apart(cell, ds)
    dz = jnp.matmul(weights.w_hh, dh, precision=precision)
    return _joined(*cell.tangent(coefficients, tuple(jnp.split(dz, cell.num_gates)), dc))


def backward(cell: Cell, weights: Recurrent, coefficients: tuple[Array, ...], ds: Array, precision=None) -> Array:
    """J^T ds."""
    (back,) = jax.linear_transpose(lambda a: forward(cell, weights, coefficients, a, precision), ds)(ds)
    return back


def inverse(cell: Cell, weights: Recurrent, coefficients: tuple[Array, ...], ds: Array, precision=None) -> Array:
    """J^-1 ds; call it where :func:`is_invertible`."""
    dh, dc = _apart(cell, ds)
    if not cell.has_cell_state:
        return jnp.matmul(weights.inverse, dh / coefficients[0], precision=precision)
    factors = cell_factors(coefficients)
    sums = (dh - factors.output_slope * dc) / factors.by_output_sum
    before = jnp.matmul(weights.inverse, sums, precision=precision)
    _, rest = _apart(cell, forward(cell, weights, coefficients, _joined(before, jnp.zeros_like(dc)), precision))
    return _joined(before, (dc - rest) / factors.forget)


def inverse_backward(cell, weights, coefficients, ds: Array, precision=None) -> Array:
    """J^-T ds."""
    (back,) = jax.linear_transpose(lambda a: inverse(cell, weights, coefficients, a, precision), ds)(ds)
    return back


def is_invertible(cell: Cell, weights: Recurrent, coefficients: tuple[Array, ...]) -> Array:
    """bool []: no divisor is zero, and the matrix has an inverse."""
    return jnp.all(jnp.stack(_divisors(cell, coefficients)) != 0) & jnp.any(weights.inverse != 0)


def _divisors(cell, coefficients):
    if not cell.has_cell_state:
        return (coefficients[0],)
    factors = cell_factors(coefficients)
    return factors.by_output_sum, factors.forget


def _apart(cell, ds):
    if not cell.has_cell_state:
        return ds, None
    dh, dc = jnp.split(ds, 2)
    return dh, dc


def _joined(dh, dc):
    return dh if dc is None else jnp.concatenate((dh, dc))
