"""The parts of faults: a step whose parts can be replaced, and functions with a wrong derivative.

``open_step`` with no part replaced equals the step of torch_ref bit for bit; a test verifies this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

from crosscheck.faults.fault import EndsHook, Params, WeightsHook
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import State, Weights

Unary: TypeAlias = Callable[[Tensor], Tensor]
Product: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (a, weight, bias)


def unchanged(a: Tensor) -> Tensor:
    """Return the argument."""
    return a


def on_parameters(prefixes: str | tuple[str, ...], change: Unary) -> WeightsHook:
    """Return the hook that applies ``change`` to every parameter whose name begins so."""

    def weights(params: Params, case: RecurrentCase) -> Params:
        return {name: change(a) if name.startswith(prefixes) else a for name, a in params.items()}

    return weights


def on_weights(w: Weights, change: Unary) -> Weights:
    """Return the weights after ``change``."""
    return Weights(*(None if a is None else change(a) for a in w))  # type: ignore[arg-type]


def on_states(change: Callable[[Tensor, Tensor], State]) -> EndsHook:
    """Return the hook that applies ``change`` to h and c."""
    return lambda sequence, state, case: (sequence, change(*state))


def cell_update(i: Tensor, f: Tensor, g: Tensor, c: Tensor) -> Tensor:
    """Return the new c."""
    return f * c + i * g


def open_step(
    w: Weights,
    x: Tensor,
    state: State,
    at: Any = None,
    *,
    product: Product = linear,
    recurrent: Product | None = None,
    sigmoid: Unary = torch.sigmoid,
    tanh: Unary = torch.tanh,
    squash: Unary | None = None,
    gates: Callable[..., tuple[Tensor, ...]] = lambda i, f, g, o: (i, f, g, o),
    update: Callable[..., Tensor] = cell_update,
) -> State:
    """Return the state after one LSTM step in which any part of the cell is replaced.

    Args:
      w: the weights.
      x: ``[*batch, D]``.
      state: h and c.
      at: not used; hooks get it.
      product: the product with W_ih and W_hr, and with W_hh if there is no ``recurrent``.
      recurrent: the product with W_hh.
      sigmoid: the sigmoid of i, f and o.
      tanh: the tanh of g, and of c if there is no ``squash``.
      squash: the function of c.
      gates: applied to (i, f, g, o).
      update: (i, f, g, c) -> the new c.
    """
    h, c = state
    z = product(x, w.weight_ih, w.bias_ih) + (recurrent or product)(h, w.weight_hh, w.bias_hh)
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i, f, g, o = gates(sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o))
    c = update(i, f, g, c)
    h = o * (squash or tanh)(c)
    return (h if w.weight_hr is None else product(h, w.weight_hr, None)), c


def with_cotangent(a: Tensor, change: Unary) -> Tensor:
    """Return the same tensor. Its cotangent goes through ``change`` in the backward pass."""
    view = a.view_as(a)
    if view.requires_grad:
        view.register_hook(change)
    return view


def with_derivative(function: Unary, derivative: Callable[[Tensor, Tensor], Tensor]) -> Unary:
    """Return the pointwise ``function`` with the derivative ``derivative(z, function(z))``."""

    def replaced(z: Tensor) -> Tensor:
        fixed = z.detach()
        y = function(fixed)
        return y + derivative(fixed, y) * (z - fixed)  # the difference is zero, and has the gradient

    return replaced


class _Product(Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, weight: Tensor, bias: Tensor | None, kept: Tensor, narrow: Unary, narrow_back: Unary
    ) -> Tensor:
        ctx.save_for_backward(kept, weight)
        ctx.narrow_back = narrow_back
        return linear(narrow(a), narrow(weight), bias)

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> tuple[Any, ...]:
        kept, weight = ctx.saved_tensors
        narrow = ctx.narrow_back
        db = dz.reshape(-1, dz.shape[-1]).sum(0) if ctx.needs_input_grad[2] else None
        dz = narrow(dz)
        da = dz @ narrow(weight)
        dw = dz.reshape(-1, dz.shape[-1]).T @ narrow(kept).reshape(-1, kept.shape[-1])
        return da, dw, db, None, None, None


def own_product(kept: Tensor | Unary = unchanged, narrow: Unary = unchanged, narrow_back: Unary = unchanged) -> Product:
    """Return ``linear`` with a backward pass of its own.

    Args:
      kept: what replaces ``a`` in the gradient of the weight: a tensor, or a function of ``a``.
      narrow: applied to the operands of the forward product.
      narrow_back: applied to the operands of the backward products.
    """

    def product(a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        residual = (kept if isinstance(kept, Tensor) else kept(a)).detach()
        result: Tensor = _Product.apply(a, weight, bias, residual, narrow, narrow_back)  # type: ignore[no-untyped-call]
        return result

    return product


def bfloat16(a: Tensor) -> Tensor:
    """Return ``a`` rounded to bfloat16 (8 bits), in its own dtype."""
    return a.to(torch.bfloat16).to(a.dtype)


def float16(a: Tensor) -> Tensor:
    """Return ``a`` rounded to float16 (11 bits), in its own dtype."""
    return a.to(torch.float16).to(a.dtype)


def tf32(a: Tensor) -> Tensor:
    """Return float32 rounded to nearest even at 11 bits, which a TF32 product reads of its operands."""
    bits = a.detach().contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
