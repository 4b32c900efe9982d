"""The Jacobians of single steps, as dense matrices by torch.func.jacrev, and how to solve with them.

The inverse of an LSTM's J is not computed from J. If an output gate hardly depends on h, the h rows of J are nearly
multiples of its c rows, and the inverse would lose as many digits as the condition number of J has. Instead it is
solved in two stages: for dh from dh' = M dh + Q dc', and then for dc from dc' = A dh + F dc. M, Q, A and F come from
autograd.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn.functional import linear

from torch_ref.cell import Weights
from torch_ref.modules import LSTM, RNN

Module: TypeAlias = LSTM | RNN


def _step(module: Module, state: Tensor, x: Tensor) -> Tensor:
    """Return the next joined state ``[n]``."""
    return torch.cat(
        module._step()(module._weights(0, ""), x, torch.split(state, list(module._widths()), dim=-1)), dim=-1
    )


def trajectory(module: Module, x: Tensor, state: Tensor) -> Tensor:
    """Return the states that the steps start from, ``[T, n]``."""
    befores = []
    with torch.no_grad():
        for x_t in x.unbind(0):
            befores.append(state)
            state = _step(module, state, x_t)
    return torch.stack(befores)


def step_jacobians(module: Module, before: Tensor, x: Tensor) -> Tensor:
    """Return J_t of every step, ``[T, n, n]``, from the states that the steps start from."""
    return vmap(jacrev(partial(_step, module)))(before, x).detach()


class Stages(NamedTuple):
    """The two stages of an LSTM's step: dc' = a dh + f ∘ dc, and then dh' = m dh + q ∘ dc'.

    m and a are ``[T, H, H]``, q and f ``[T, H]``.
    """

    m: Tensor
    q: Tensor
    a: Tensor
    f: Tensor

    def at(self, t: int) -> Stages:
        """Return the stages of one step."""
        return Stages(*(part[t] for part in self))


def stages_of(module: LSTM, before: Tensor, x: Tensor) -> Stages:
    """Return the stages of every step, from the states that the steps start from."""
    weights, step = module._weights(0, ""), module._step()
    h, c = torch.split(before, list(module._widths()), dim=-1)
    next_c = lambda h, c, x: step(weights, x, (h, c))[1]
    with torch.no_grad():
        c_new = next_c(h, c, x)
    m, q = vmap(jacrev(partial(_output, weights), argnums=(0, 1)))(h, c_new, x)
    a, f = vmap(jacrev(next_c, argnums=(0, 1)))(h, c, x)
    return Stages(m.detach(), _diagonal(q), a.detach(), _diagonal(f))


def _output(w: Weights, h: Tensor, c_new: Tensor, x: Tensor) -> Tensor:
    """Return the new h from the old h and the new c: the second stage."""
    z_o = (linear(x, w.weight_ih, w.bias_ih) + linear(h, w.weight_hh, w.bias_hh)).chunk(4, dim=-1)[3]
    return torch.sigmoid(z_o) * torch.tanh(c_new)


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.detach().diagonal(dim1=-2, dim2=-1)


def solve_step(jacobian: Tensor, stages: Stages | None, right: Tensor) -> Tensor | None:
    """Return J^-1 right, or None if a pivot or a divisor is exactly zero."""
    if stages is None:
        dh, info = torch.linalg.solve_ex(jacobian, right)
        return None if info else _if_finite(dh)
    m, q, a, f = stages
    h_new, c_new = right.chunk(2)
    dh, info = torch.linalg.solve_ex(m, h_new - q[:, None] * c_new)
    return None if info else _if_finite(torch.cat((dh, (c_new - a @ dh) / f[:, None])))


def _if_finite(a: Tensor) -> Tensor | None:
    return a if bool(a.isfinite().all()) else None
