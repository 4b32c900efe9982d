"""The Elman RNN cell of torch.nn.RNN: one equation.

    h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)          φ = tanh or relu

It has no cell state: in `recurrence`, ``c`` is None. Source: Elman 1990, as torch.nn.RNN states it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Gates
from jax_lstm._src.cell import Cell

Nonlinearity = Literal["tanh", "relu"]


def cell_of(nonlinearity: Nonlinearity) -> Cell:
    """Return the cell with a nonlinearity. Raise ValueError if it is unknown."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}.")
    return NONLINEARITIES[nonlinearity]


def _make_cell(name: str, phi: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Cell:
    """Return a cell from a nonlinearity and its slope as a function of its *value*."""

    def activate(z: Gates) -> Gates:
        return (phi(z[0]),)

    def advance(gates: Gates, c_prev: None) -> tuple[Array, None]:
        return gates[0], None

    def activation_slopes(gates: Gates) -> Gates:
        return (slope(gates[0]),)

    def slopes(gates: Gates, c_prev: None, c: None) -> Gates:
        return activation_slopes(gates)

    def tangent(coefficients: Gates, dz: Gates, dc_prev: None) -> tuple[Array, None]:
        return coefficients[0] * dz[0], None

    return Cell(name, 1, False, activate, advance, activation_slopes, slopes, tangent)


NONLINEARITIES: dict[Nonlinearity, Cell] = {
    "tanh": _make_cell("rnn_tanh", jnp.tanh, lambda h: 1 - h * h),
    "relu": _make_cell("rnn_relu", jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
}
