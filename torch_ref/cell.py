"""One step of each cell, equation by equation.

LSTM:   i = σ(W_ii x + b_ii + W_hi h + b_hi)        c' = f ∘ c + i ∘ g
        f = σ(W_if x + b_if + W_hf h + b_hf)        h' = o ∘ tanh(c')      (W_hr h' with a projection)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        o = σ(W_io x + b_io + W_ho h + b_ho)
RNN:    h' = φ(W_ih x + b_ih + W_hh h + b_hh)       φ = tanh or relu

Source: the documentation of torch.nn.LSTM and torch.nn.RNN, with the same weight names and gate order (i, f, g, o).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear

State: TypeAlias = tuple[Tensor, ...]  # (h, c) of an LSTM, (h,) of an RNN


class Weights(NamedTuple):
    """One layer in one direction.

    weight_ih ``[G, D]``, weight_hh ``[G, P]``, bias_ih and bias_hh ``[G]`` or None, weight_hr ``[P, H]`` or None.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None


Step: TypeAlias = Callable[[Weights, Tensor, State], State]


def lstm_step(w: Weights, x: Tensor, state: State) -> State:
    """Return the next state for x ``[*batch, D]`` and the state (h ``[*batch, P]``, c ``[*batch, H]``)."""
    h, c = state
    z = linear(x, w.weight_ih, w.bias_ih) + linear(h, w.weight_hh, w.bias_hh)
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i = torch.sigmoid(z_i)
    f = torch.sigmoid(z_f)
    g = torch.tanh(z_g)
    o = torch.sigmoid(z_o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return (h if w.weight_hr is None else linear(h, w.weight_hr)), c


def rnn_tanh_step(w: Weights, x: Tensor, state: State) -> State:
    """Return the next state for x ``[*batch, D]`` and the state (h ``[*batch, H]``,)."""
    return (torch.tanh(linear(x, w.weight_ih, w.bias_ih) + linear(state[0], w.weight_hh, w.bias_hh)),)


def rnn_relu_step(w: Weights, x: Tensor, state: State) -> State:
    """Return the next state, as `rnn_tanh_step`, with relu."""
    return (torch.relu(linear(x, w.weight_ih, w.bias_ih) + linear(state[0], w.weight_hh, w.bias_hh)),)
