"""The Elman RNN cell, torch.nn.RNN's: one equation.

    h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)          φ = tanh or relu

It has no cell state; `recurrence` sees ``c = None`` throughout. Source: Elman 1990, as torch.nn.RNN states it.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from jax_lstm._src.cell import Cell


def _cell(name, phi, slope):
    """A cell from a nonlinearity and its slope as a function of its *value*."""

    def activate(z):
        return (phi(z[0]),)

    def advance(gates, c_prev):
        return gates[0], None

    def activation_slopes(gates):
        return (slope(gates[0]),)

    def slopes(gates, c_prev, c):
        return activation_slopes(gates)

    def tangent(coefficients, dz, dc_prev):
        return coefficients[0] * dz[0], None

    return Cell(name, 1, False, activate, advance, activation_slopes, slopes, tangent)


Nonlinearity = Literal["tanh", "relu"]
NONLINEARITIES: dict[Nonlinearity, Cell] = {
    "tanh": _cell("rnn_tanh", jnp.tanh, lambda h: 1 - h * h),
    "relu": _cell("rnn_relu", jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
}
