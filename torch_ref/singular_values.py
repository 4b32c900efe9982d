"""The largest and smallest singular values of Jacobians and of their products, as binary logarithms.

The smallest singular value is 1 over the largest of the inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor

from torch_ref.scaled import LOG2_OF_ZERO, Scaled, log2_norm

Solve: TypeAlias = Callable[[int, Tensor], Tensor | None]  # (t, right) -> J_t^-1 right, or None if J_t is singular


def step_extremes(jacobians: Tensor, solve: Solve, steps: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Return log2 of the largest and smallest singular value at each of ``steps``. It is -inf for a singular matrix."""
    identity = torch.eye(jacobians.shape[1], dtype=jacobians.dtype)
    inverses = [solve(t, identity) for t in steps]
    smallest = [LOG2_OF_ZERO if inverse is None else -log2_norm(Scaled(inverse)) for inverse in inverses]
    largest = [log2_norm(Scaled(jacobians[t])) for t in steps]
    return torch.tensor(largest, dtype=torch.float64), torch.tensor(smallest, dtype=torch.float64)


def product_extremes(jacobians: Tensor, solve: Solve, every: int) -> tuple[Tensor, Tensor]:
    """Return log2 of the extreme singular values of J_T ... J_{t+1} for t in range(0, T, every)."""
    identity = torch.eye(jacobians.shape[1], dtype=jacobians.dtype)
    product, rows = Scaled(identity), []
    inverted: Scaled | None = Scaled(identity)
    for t in range(len(jacobians) - 1, -1, -1):
        product = Scaled(product.value @ jacobians[t], product.power)
        if inverted is not None:
            solved = solve(t, inverted.value)
            inverted = None if solved is None else Scaled(solved, inverted.power)
        if t % every == 0:
            rows.append((log2_norm(product), LOG2_OF_ZERO if inverted is None else -log2_norm(inverted)))
    largest, smallest = torch.tensor(rows[::-1], dtype=torch.float64).unbind(1)
    return largest, smallest
