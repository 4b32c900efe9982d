"""The LSTM class of the teaching notebook, as published and as its equations say.

    f = σ(W_f [x, h])    i = σ(W_i [x, h])    C~ = tanh(W_c [x, h])    o = σ(W_o [x, h])
    c' = f ∘ c + i ∘ C~                       h' = o ∘ tanh(c')

As published, the forward pass departs from these equations twice: all four gates use ``self.f``, and ``hidden_states``
collects c instead of h. ``as_published=True`` keeps both departures; ``False`` follows the equations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NotebookLSTM(nn.Module):
    """An LSTM of four linear layers over [x, h], named f, i, c_ and o.

    Args:
      input_dim: D, the width of x.
      hidden_dim: H, the width of h and c.
      as_published: behave as the notebook's class does, with its two departures from the equations: every gate uses the
        layer f, and the outputs are the cell states. If False, the class computes the equations.

    Examples:
      >>> import torch
      >>> import torch_ref
      >>> module = torch_ref.NotebookLSTM(input_dim=3, hidden_dim=5)
      >>> hidden_states, (h, c) = module(torch.zeros(2, 7, 3), torch.zeros(2, 5), torch.zeros(2, 5))
      >>> torch.equal(hidden_states[:, -1], c)  # as published, these are the cell states
      True
    """

    def __init__(self, input_dim: int, hidden_dim: int, as_published: bool = True) -> None:
        super().__init__()
        self.input_dim, self.hidden_dim, self.as_published = input_dim, hidden_dim, as_published
        self.f = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.i = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.c_ = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.o = nn.Linear(input_dim + hidden_dim, hidden_dim)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the LSTM over time.

        Args:
          x: `[B, T, input_dim]`.
          h: `[B, hidden_dim]`, the hidden state before the first step.
          c: `[B, hidden_dim]`, the cell state before the first step.

        Returns:
          The outputs of all steps `[B, T, hidden_dim]`, and the last (h, c). The outputs are the hidden states, or the
          cell states if `as_published`.

        Examples:
          >>> import torch
          >>> import torch_ref
          >>> module = torch_ref.NotebookLSTM(3, 5, as_published=False)
          >>> hidden_states, (h, c) = module(torch.zeros(2, 7, 3), torch.zeros(2, 5), torch.zeros(2, 5))
          >>> hidden_states.shape, torch.equal(hidden_states[:, -1], h)
          (torch.Size([2, 7, 5]), True)
        """
        to_i, to_c, to_o = (self.f,) * 3 if self.as_published else (self.i, self.c_, self.o)
        hidden_states = []
        for x_t in x.unbind(1):
            joint = torch.cat((x_t, h), dim=-1)
            f = torch.sigmoid(self.f(joint))
            i = torch.sigmoid(to_i(joint))
            candidate = torch.tanh(to_c(joint))
            o = torch.sigmoid(to_o(joint))
            c = f * c + i * candidate
            h = o * torch.tanh(c)
            hidden_states.append(c if self.as_published else h)
        return torch.stack(hidden_states, dim=1), (h, c)

    def lstm_state_dict(self) -> dict[str, Tensor]:
        """Return the weights as a torch.nn.LSTM state dict, by the equations, also if ``as_published``.

        Returns:
          Copies of the weights: `weight_ih_l0` `[4H, D]`, `weight_hh_l0` `[4H, H]`, `bias_ih_l0` and `bias_hh_l0`
          `[4H]`. The one bias of each linear layer becomes `bias_ih_l0`, and `bias_hh_l0` is zero.

        Examples:
          >>> import torch_ref
          >>> list(torch_ref.NotebookLSTM(3, 5).lstm_state_dict())
          ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
        """
        gates = (self.i, self.f, self.c_, self.o)
        weight = torch.cat([gate.weight.detach() for gate in gates])
        bias = torch.cat([gate.bias.detach() for gate in gates])
        return {
            "weight_ih_l0": weight[:, : self.input_dim].clone(),
            "weight_hh_l0": weight[:, self.input_dim :].clone(),
            "bias_ih_l0": bias,
            "bias_hh_l0": torch.zeros_like(bias),
        }
