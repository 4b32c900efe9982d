"""Gradient norms and singular values through time, by dense Jacobians, independent of any other implementation.

torch.func.jacrev gives every J_t = ds_t / ds_{t-1} as a matrix: [T, n, n] in all, with n = H for an RNN and 2H for
an LSTM, whose state is s = (h, c). Therefore this is for small networks. Adjoints and products are matrix products.
Each is scaled back to the size of 1, with its power of two as a Python int. The smallest singular value is 1 over the
largest of the inverse.

The inverse of an LSTM's J is not computed from J. If an output gate hardly depends on h, the h rows of J are nearly
multiples of its c rows, and the inverse would lose as many digits as the condition number of J has. Instead it is
solved in two stages: for dh from dh' = M dh + Q dc', and then for dc from dc' = A dh + F dc. M, Q, A and F come from
autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn.functional import linear

from torch_ref.cell import Weights
from torch_ref.modules import LSTM, RNN

Module: TypeAlias = LSTM | RNN
Solve: TypeAlias = Callable[[int, Tensor], Tensor | None]  # (t, right) -> J_t^-1 right, or None if J_t is singular

_ZERO = float("-inf")


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
    before = _trajectory(module, x, _first_state(module, hx, x))
    jacobians = vmap(jacrev(partial(_step, module)))(before, x).detach()
    stages = _stages(module, before, x) if isinstance(module, LSTM) else None
    hidden = module.hidden_size
    shapes = {"dy": (dy, (len(x), hidden)), "dh_n": (dh_n, (hidden,)), "dc_n": (dc_n, (hidden,))}
    out, last_h, last_c = (_or_zeros(name, value, shape, x) for name, (value, shape) in shapes.items())
    if stages is None:
        dh, dc, along_c, through_h = _rnn_adjoint(jacobians, out, last_h), None, None, None
    else:
        dh, dc, along_c, through_h = _lstm_adjoint(jacobians, out, last_h, last_c, stages)
    solve_at = lambda t, right: _solved(jacobians[t], None if stages is None else stages.at(t), right)
    extremes = _extremes(jacobians, solve_at, range(0, len(x), every))
    product_extremes = _product_extremes(jacobians, solve_at, every)
    return GradientFlow(dh, dc, along_c, through_h, *extremes, *product_extremes)


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


def _step(module: Module, state: Tensor, x: Tensor) -> Tensor:
    """Return the next joined state ``[n]``."""
    return torch.cat(
        module._step()(module._weights(0, ""), x, torch.split(state, list(module._widths()), dim=-1)), dim=-1
    )


def _trajectory(module: Module, x: Tensor, state: Tensor) -> Tensor:
    """Return the states that the steps start from, ``[T, n]``."""
    befores = []
    with torch.no_grad():
        for x_t in x.unbind(0):
            befores.append(state)
            state = _step(module, state, x_t)
    return torch.stack(befores)


class _Stages(NamedTuple):
    """The two stages of an LSTM's step: dc' = a dh + f ∘ dc, and then dh' = m dh + q ∘ dc'.

    m and a are ``[T, H, H]``, q and f ``[T, H]``.
    """

    m: Tensor
    q: Tensor
    a: Tensor
    f: Tensor

    def at(self, t: int) -> _Stages:
        """Return the stages of one step."""
        return _Stages(*(part[t] for part in self))


def _stages(module: LSTM, before: Tensor, x: Tensor) -> _Stages:
    weights, step = module._weights(0, ""), module._step()
    h, c = torch.split(before, list(module._widths()), dim=-1)
    next_c = lambda h, c, x: step(weights, x, (h, c))[1]
    with torch.no_grad():
        c_new = next_c(h, c, x)
    m, q = vmap(jacrev(partial(_output, weights), argnums=(0, 1)))(h, c_new, x)
    a, f = vmap(jacrev(next_c, argnums=(0, 1)))(h, c, x)
    return _Stages(m.detach(), _diagonal(q), a.detach(), _diagonal(f))


def _output(w: Weights, h: Tensor, c_new: Tensor, x: Tensor) -> Tensor:
    """Return the new h from the old h and the new c: the second stage."""
    z_o = (linear(x, w.weight_ih, w.bias_ih) + linear(h, w.weight_hh, w.bias_hh)).chunk(4, dim=-1)[3]
    return torch.sigmoid(z_o) * torch.tanh(c_new)


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.detach().diagonal(dim1=-2, dim2=-1)


def _solved(jacobian: Tensor, stages: _Stages | None, right: Tensor) -> Tensor | None:
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


class _Number:
    """A tensor times 2**power. The largest entry of the tensor is in [1/2, 1), or zero."""

    def __init__(self, value: Tensor, power: int = 0) -> None:
        exponent = int(torch.frexp(value.abs().max())[1]) if value.any() else 0
        self.value, self.power = torch.ldexp(value, torch.tensor(-exponent)), power + exponent

    def plus(self, other: _Number) -> _Number:
        """Return the sum."""
        if not other.value.any():
            return self
        if not self.value.any():
            return other
        power = max(self.power, other.power)
        near = [torch.ldexp(n.value, torch.tensor(n.power - power)) for n in (self, other)]
        return _Number(near[0] + near[1], power)

    def log2(self) -> float:
        """Return log2 of the 2-norm over all entries."""
        size = torch.linalg.vector_norm(self.value).double()
        return float(torch.log2(size)) + self.power if size > 0 else _ZERO


def _rnn_adjoint(jacobians: Tensor, dy: Tensor, dh_n: Tensor) -> Tensor:
    """Return log2 norms of dL/dh_t for t = 0 ... T."""
    dh = _Number(dy[-1] + dh_n)
    norms = [dh.log2()]
    for t in range(len(dy) - 1, -1, -1):
        direct = dy[t - 1] if t > 0 else torch.zeros_like(dh_n)
        dh = _Number(dh.value @ jacobians[t], dh.power).plus(_Number(direct))
        norms.append(dh.log2())
    return torch.tensor(norms[::-1], dtype=torch.float64)


def _lstm_adjoint(jacobians: Tensor, dy: Tensor, dh_n: Tensor, dc_n: Tensor, stages: _Stages) -> tuple[Tensor, ...]:
    """Return log2 norms of dL/dh_t, dL/dc_t and its two parts, for t = 0 ... T."""
    slopes, hidden, zero = torch.cat((torch.zeros_like(dh_n)[None], stages.q)), len(dh_n), torch.zeros_like(dh_n)
    ds = _Number(torch.cat((dy[-1] + dh_n, dc_n)))
    along, through = _Number(dc_n + slopes[-1] * (dy[-1] + dh_n)), _Number(zero)

    def row(t: int) -> list[float]:
        dh, dc = ds.value[:hidden], ds.value[hidden:] + slopes[t] * ds.value[:hidden]
        return [n.log2() for n in (_Number(dh, ds.power), _Number(dc, ds.power), along, through)]

    rows = [row(len(dy))]
    for t in range(len(dy) - 1, -1, -1):
        direct = dy[t - 1] if t > 0 else zero
        before = _Number(ds.value @ jacobians[t], ds.power)
        ds = before.plus(_Number(torch.cat((direct, zero))))
        along = _Number(stages.f[t] * along.value, along.power).plus(_Number(slopes[t] * direct))
        returned = _Number(slopes[t] * before.value[:hidden], before.power)
        through = _Number(stages.f[t] * through.value, through.power).plus(returned)
        rows.append(row(t))
    return torch.tensor(rows[::-1], dtype=torch.float64).unbind(1)


def _extremes(jacobians: Tensor, solve: Solve, steps: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Return log2 of the largest and smallest singular value at each of ``steps``. It is -inf for a singular matrix."""
    identity = torch.eye(jacobians.shape[1], dtype=jacobians.dtype)
    inverses = [solve(t, identity) for t in steps]
    smallest = [_ZERO if inverse is None else -_log2_norm(_Number(inverse)) for inverse in inverses]
    largest = [_log2_norm(_Number(jacobians[t])) for t in steps]
    return torch.tensor(largest, dtype=torch.float64), torch.tensor(smallest, dtype=torch.float64)


def _product_extremes(jacobians: Tensor, solve: Solve, every: int) -> tuple[Tensor, Tensor]:
    """Return log2 of the extreme singular values of J_T ... J_{t+1} for t in range(0, T, every)."""
    identity = torch.eye(jacobians.shape[1], dtype=jacobians.dtype)
    product, rows = _Number(identity), []
    inverted: _Number | None = _Number(identity)
    for t in range(len(jacobians) - 1, -1, -1):
        product = _Number(product.value @ jacobians[t], product.power)
        if inverted is not None:
            solved = solve(t, inverted.value)
            inverted = None if solved is None else _Number(solved, inverted.power)
        if t % every == 0:
            rows.append((_log2_norm(product), _ZERO if inverted is None else -_log2_norm(inverted)))
    largest, smallest = torch.tensor(rows[::-1], dtype=torch.float64).unbind(1)
    return largest, smallest


def _log2_norm(matrix: _Number) -> float:
    largest = torch.linalg.matrix_norm(matrix.value, 2).double()
    return float(torch.log2(largest)) + matrix.power if largest > 0 else _ZERO
