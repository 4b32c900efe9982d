"""Gradient norms and singular values through time, by dense Jacobians, independent of any other implementation.

`torch_ref.jacobians` gives every J_t = ds_t / ds_{t-1} as a matrix: [T, n, n] in all, with n = H for an RNN and 2H for
an LSTM, whose state is s = (h, c). Therefore this is for small networks. Adjoints and products are matrix products.
Each is scaled back to the size of 1, with its power of two as a Python int.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_ref.jacobians import Module, Stages, solve_step, stages_of, step_jacobians, trajectory
from torch_ref.modules import LSTM
from torch_ref.scaled import Scaled
from torch_ref.singular_values import product_extremes, step_extremes


@dataclass(frozen=True)
class GradientFlow:
    """Norms and singular values of the backward pass, as binary logarithms in `float64` tensors.

    -inf is a true zero. `J_t` is ds_t / ds_{t-1}, with the state s = (h, c) of an LSTM and s = h of an RNN. Norms are
    for all steps. Singular values are for every `every`-th step.

    Attributes:
      dh: `[T + 1]`, log2 of ‖dL/dh_t‖ for t = 0 ... T, as a total derivative.
      dc: `[T + 1]`, log2 of ‖dL/dc_t‖ for t = 0 ... T, as a total derivative, so that it includes the way of c through
        h. None for an RNN.
      along_c: `[T + 1]`, log2 of the norm of the part of dL/dc_t that never passed W_hh on its way. None for an RNN.
      through_h: `[T + 1]`, log2 of the norm of the rest of dL/dc_t. None for an RNN.
      step_max: log2 of the largest singular value of `J_t` for t - 1 in range(0, T, every).
      step_min: log2 of the smallest singular value of `J_t` for the same t.
      product_max: log2 of the largest singular value of ds_T / ds_t for t in range(0, T, every).
      product_min: log2 of the smallest singular value of ds_T / ds_t for the same t.

    Examples:
      >>> import torch
      >>> import torch_ref
      >>> flow = torch_ref.gradient_flow(torch_ref.RNN(3, 5), torch.randn(7, 3), dh_n=torch.ones(5))
      >>> flow.product_max.shape, flow.dc
      (torch.Size([7]), None)
    """

    dh: Tensor
    dc: Tensor | None
    along_c: Tensor | None
    through_h: Tensor | None
    step_max: Tensor
    step_min: Tensor
    product_max: Tensor
    product_min: Tensor


def gradient_flow(
    module: Module,
    x: Tensor,
    hx: Tensor | tuple[Tensor, Tensor] | None = None,
    *,
    dy: Tensor | None = None,
    dh_n: Tensor | None = None,
    dc_n: Tensor | None = None,
    every: int = 1,
) -> GradientFlow:
    """Return the gradient flow of L = Σ dy ∘ y + Σ dh_n ∘ h_n + Σ dc_n ∘ c_n over one sequence.

    Every Jacobian is a dense matrix, `[T, n, n]` in all, with n = H for an RNN and 2H for an LSTM. Therefore this
    function is for small networks.

    Args:
      module: an LSTM or RNN of this package with one layer, one direction and no projection. Everything is computed in
        its dtype.
      x: the sequence `[T, D]`, with or without `batch_first`.
      hx: the initial state for an unbatched x, (h_0, c_0) of `[1, H]` each for an LSTM and h_0 `[1, H]` for an RNN.
        None means zeros.
      dy: the gradient of the outputs `[T, H]`. None means zeros.
      dh_n: the gradient of the last hidden state `[H]`. None means zeros.
      dc_n: the gradient of the last cell state `[H]`. None means zeros.
      every: the distance between the steps at which singular values are computed. Gradient norms are for all steps.

    Returns:
      The norms and singular values, as binary logarithms.

    Raises:
      ValueError: the module is not supported, or an array has the wrong shape. The message names it.

    Examples:
      >>> import torch
      >>> import torch_ref
      >>> flow = torch_ref.gradient_flow(torch_ref.LSTM(3, 5), torch.randn(7, 3), dh_n=torch.ones(5))
      >>> flow.dh.shape, flow.dh.dtype
      (torch.Size([8]), torch.float64)
    """
    _check(module, x, every)
    before = trajectory(module, x, _first_state(module, hx, x))
    jacobians = step_jacobians(module, before, x)
    stages = stages_of(module, before, x) if isinstance(module, LSTM) else None
    hidden = module.hidden_size
    shapes = {"dy": (dy, (len(x), hidden)), "dh_n": (dh_n, (hidden,)), "dc_n": (dc_n, (hidden,))}
    out, last_h, last_c = (_or_zeros(name, value, shape, x) for name, (value, shape) in shapes.items())
    if stages is None:
        dh, dc, along_c, through_h = _rnn_adjoint(jacobians, out, last_h), None, None, None
    else:
        dh, dc, along_c, through_h = _lstm_adjoint(jacobians, out, last_h, last_c, stages)
    solve_at = lambda t, right: solve_step(jacobians[t], None if stages is None else stages.at(t), right)
    of_steps = step_extremes(jacobians, solve_at, range(0, len(x), every))
    of_products = product_extremes(jacobians, solve_at, every)
    return GradientFlow(dh, dc, along_c, through_h, *of_steps, *of_products)


def _check(module: Module, x: Tensor, every: int) -> None:
    for name, plain in (("num_layers", 1), ("bidirectional", False), ("proj_size", 0)):
        if getattr(module, name) != plain:
            raise ValueError(f"gradient_flow needs {name} = {plain}; got {getattr(module, name)}.")
    if x.dim() != 2 or x.shape[1] != module.input_size or not len(x):
        raise ValueError(f"x must be [T, D] with D = {module.input_size} and T over 0; got shape {tuple(x.shape)}.")
    if every < 1:
        raise ValueError(f"every must be at least 1; got {every}.")


def _or_zeros(name: str, value: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    if value is not None and tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}; got {tuple(value.shape)}.")
    return like.new_zeros(shape) if value is None else value


def _first_state(module: Module, hx: Tensor | tuple[Tensor, Tensor] | None, x: Tensor) -> Tensor:
    """Return (h_0, c_0) as one vector ``[n]``."""
    widths = module._widths()
    if hx is None:
        return x.new_zeros(sum(widths))
    parts = hx if isinstance(hx, tuple) else (hx,)
    wanted, got = [(1, width) for width in widths], [tuple(part.shape) for part in parts]
    if got != wanted:
        raise ValueError(f"hx must hold tensors of shapes {wanted}; got {got}.")
    return torch.cat([part[0] for part in parts])


def _rnn_adjoint(jacobians: Tensor, dy: Tensor, dh_n: Tensor) -> Tensor:
    """Return log2 norms of dL/dh_t for t = 0 ... T."""
    dh = Scaled(dy[-1] + dh_n)
    norms = [dh.log2()]
    for t in range(len(dy) - 1, -1, -1):
        direct = dy[t - 1] if t > 0 else torch.zeros_like(dh_n)
        dh = Scaled(dh.value @ jacobians[t], dh.power).plus(Scaled(direct))
        norms.append(dh.log2())
    return torch.tensor(norms[::-1], dtype=torch.float64)


def _lstm_adjoint(jacobians: Tensor, dy: Tensor, dh_n: Tensor, dc_n: Tensor, stages: Stages) -> tuple[Tensor, ...]:
    """Return log2 norms of dL/dh_t, dL/dc_t and its two parts, for t = 0 ... T."""
    slopes, hidden, zero = torch.cat((torch.zeros_like(dh_n)[None], stages.q)), len(dh_n), torch.zeros_like(dh_n)
    ds = Scaled(torch.cat((dy[-1] + dh_n, dc_n)))
    along, through = Scaled(dc_n + slopes[-1] * (dy[-1] + dh_n)), Scaled(zero)

    def row(t: int) -> list[float]:
        dh, dc = ds.value[:hidden], ds.value[hidden:] + slopes[t] * ds.value[:hidden]
        return [n.log2() for n in (Scaled(dh, ds.power), Scaled(dc, ds.power), along, through)]

    rows = [row(len(dy))]
    for t in range(len(dy) - 1, -1, -1):
        direct = dy[t - 1] if t > 0 else zero
        before = Scaled(ds.value @ jacobians[t], ds.power)
        ds = before.plus(Scaled(torch.cat((direct, zero))))
        along = Scaled(stages.f[t] * along.value, along.power).plus(Scaled(slopes[t] * direct))
        returned = Scaled(slopes[t] * before.value[:hidden], before.power)
        through = Scaled(stages.f[t] * through.value, through.power).plus(returned)
        rows.append(row(t))
    return torch.tensor(rows[::-1], dtype=torch.float64).unbind(1)
