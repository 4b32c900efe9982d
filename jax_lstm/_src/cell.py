"""The LSTM cell: six equations, and their derivatives.

    i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)          input gate
    f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)          forget gate
    g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)       candidate
    o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)          output gate
    c_t = f_t ∘ c_{t-1} + i_t ∘ g_t
    h_t = o_t ∘ tanh(c_t)

Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, as torch.nn.LSTM states them.
Departure (1): the sum inside each gate, ``z``, is computed outside this file (`recurrence`), because most of it needs
no loop. Departure (2): with a projection, h_t = W_hr (o_t ∘ tanh(c_t)). `recurrence` computes that product too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Gates

GATE_ORDER = ("i", "f", "g", "o")  # torch's order; it is written in this file only
CellState: TypeAlias = Any  # an array [..., H]; None in a cell that has no cell state


class Cell(NamedTuple):
    """A recurrent cell as pointwise functions. Every array is ``[..., H]``, and gates are a tuple of such arrays.

    activate(z) -> gates:                           the gates from their sums z
    advance(gates, c_prev) -> (m, c):               the new output m (h before any projection) and the new cell state
    activation_slopes(gates) -> slopes:             d gate / d z, computed from the value of the gate
    slopes(gates, c_prev, c) -> coefficients:       everything that `tangent` multiplies by
    tangent(coefficients, dz, dc_prev) -> (dm, dc): the derivative of the cell; it is linear in dz and dc_prev
    """

    name: str
    num_gates: int
    has_cell_state: bool
    activate: Callable[[Gates], Gates]
    advance: Callable[[Gates, CellState], tuple[Array, CellState]]
    activation_slopes: Callable[[Gates], Gates]
    slopes: Callable[[Gates, CellState, CellState], Gates]
    tangent: Callable[[Gates, Gates, CellState], tuple[Array, CellState]]


def activate(z: Gates) -> Gates:
    z_i, z_f, z_g, z_o = z
    i = jax.nn.sigmoid(z_i)
    f = jax.nn.sigmoid(z_f)
    g = jnp.tanh(z_g)
    o = jax.nn.sigmoid(z_o)
    return i, f, g, o


def advance(gates: Gates, c_prev: CellState) -> tuple[Array, CellState]:
    i, f, g, o = gates
    c = f * c_prev + i * g
    h = o * jnp.tanh(c)
    return h, c


def activation_slopes(gates: Gates) -> Gates:
    i, f, g, o = gates
    return i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)


def slopes(gates: Gates, c_prev: CellState, c: CellState) -> Gates:
    i, f, g, o = gates
    s_i, s_f, s_g, s_o = activation_slopes(gates)
    tanh_c = jnp.tanh(c)
    return g * s_i, c_prev * s_f, i * s_g, f, tanh_c * s_o, o * (1 - tanh_c * tanh_c)


def tangent(coefficients: Gates, dz: Gates, dc_prev: CellState) -> tuple[Array, CellState]:
    c_by_i, c_by_f, c_by_g, c_by_c, h_by_o, h_by_c = coefficients
    dz_i, dz_f, dz_g, dz_o = dz
    dc = c_by_c * dc_prev + c_by_i * dz_i + c_by_f * dz_f + c_by_g * dz_g
    dh = h_by_o * dz_o + h_by_c * dc
    return dh, dc


LSTM = Cell("lstm", len(GATE_ORDER), True, activate, advance, activation_slopes, slopes, tangent)
