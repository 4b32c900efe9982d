"""What faults are made of: a step with parts to exchange, and functions whose derivative is not their own.

With none of its parts exchanged ``open_step`` is torch_ref's step bit for bit; a test sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

from torch_ref.cell import Weights

Unary = Callable[[Tensor], Tensor]
Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def unchanged(a: Tensor) -> Tensor:
    return a


def cell_update(i: Tensor, f: Tensor, g: Tensor, c: Tensor) -> Tensor:
    return f * c + i * g


def open_step(
    w: Weights,
    x: Tensor,
    state: tuple[Tensor, Tensor],
    at: Any = None,
    *,
    product: Product = linear,
    recurrent: Product | None = None,
    sigmoid: Unary = torch.sigmoid,
    tanh: Unary = torch.tanh,
    squash: Unary | None = None,
    gates: Callable[..., tuple[Tensor, ...]] = lambda i, f, g, o: (i, f, g, o),
    update: Callable[..., Tensor] = cell_update,
) -> tuple[Tensor, Tensor]:
    """x [*batch, D], state (h, c) -> the next state, with any part of the cell exchanged.

    product: of W_ih and of W_hr, and of W_hh unless ``recurrent`` is another. tanh: of g, and of c unless ``squash``
    is another. gates: applied to (i, f, g, o). update: (i, f, g, c) -> the new c.
    """
    h, c = state
    z = product(x, w.weight_ih, w.bias_ih) + (recurrent or product)(h, w.weight_hh, w.bias_hh)
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i, f, g, o = gates(sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o))
    c = update(i, f, g, c)
    h = o * (squash or tanh)(c)
    return (h if w.weight_hr is None else product(h, w.weight_hr, None)), c


class _WithCotangent(Function):
    @staticmethod
    def forward(ctx, a, change):
        ctx.change = change
        return a.view_as(a)

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.change(cotangent), None


def with_cotangent(a: Tensor, change: Unary) -> Tensor:
    """The same tensor, whose cotangent goes through ``change`` on its way back."""
    return _WithCotangent.apply(a, change)


class _WithDerivative(Function):
    @staticmethod
    def forward(ctx, z, function, derivative):
        y = function(z)
        ctx.derivative = derivative
        ctx.save_for_backward(z, y)
        return y

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent * ctx.derivative(*ctx.saved_tensors), None, None


def with_derivative(function: Unary, derivative: Callable[[Tensor, Tensor], Tensor]) -> Unary:
    """The pointwise ``function``, whose backward pass takes ``derivative(z, function(z))``."""
    return lambda z: _WithDerivative.apply(z, function, derivative)


class _Product(Function):
    @staticmethod
    def forward(ctx, a, weight, bias, kept, narrow, narrow_back):
        ctx.save_for_backward(kept, weight)
        ctx.narrow_back = narrow_back
        return linear(narrow(a), narrow(weight), bias)

    @staticmethod
    def backward(ctx, dz):
        kept, weight = ctx.saved_tensors
        narrow = ctx.narrow_back
        db = dz.reshape(-1, dz.shape[-1]).sum(0) if ctx.needs_input_grad[2] else None
        dz = narrow(dz)
        da = dz @ narrow(weight)
        dw = dz.reshape(-1, dz.shape[-1]).T @ narrow(kept).reshape(-1, kept.shape[-1])
        return da, dw, db, None, None, None


def own_product(kept: Tensor | Unary = unchanged, narrow: Unary = unchanged, narrow_back: Unary = unchanged) -> Product:
    """``linear`` with a backward pass of its own.

    kept: what stands in for ``a`` in the weight's gradient, as a tensor or a function of ``a``. narrow and
    narrow_back: what the operands of the products go through, forward and backward.
    """

    def product(a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        residual = kept if isinstance(kept, Tensor) else kept(a)
        return _Product.apply(a, weight, bias, residual.detach(), narrow, narrow_back)

    return product


def bfloat16(a: Tensor) -> Tensor:
    """Rounded to bfloat16 (8 bits), in the dtype that it has."""
    return a.to(torch.bfloat16).to(a.dtype)


def float16(a: Tensor) -> Tensor:
    """Rounded to float16 (11 bits), in the dtype that it has."""
    return a.to(torch.float16).to(a.dtype)


def tf32(a: Tensor) -> Tensor:
    """float32 rounded to nearest even at the 11 bits that a TF32 product reads of its operands."""
    bits = a.detach().contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
