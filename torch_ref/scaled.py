"""Tensors with a power of two, for numbers that no float holds."""

from __future__ import annotations

import torch
from torch import Tensor

LOG2_OF_ZERO = float("-inf")


class Scaled:
    """A tensor times 2**power. The largest entry of the tensor is in [1/2, 1), or zero."""

    def __init__(self, value: Tensor, power: int = 0) -> None:
        exponent = int(torch.frexp(value.abs().max())[1]) if value.any() else 0
        self.value, self.power = torch.ldexp(value, torch.tensor(-exponent)), power + exponent

    def plus(self, other: Scaled) -> Scaled:
        """Return the sum."""
        if not other.value.any():
            return self
        if not self.value.any():
            return other
        power = max(self.power, other.power)
        near = [torch.ldexp(n.value, torch.tensor(n.power - power)) for n in (self, other)]
        return Scaled(near[0] + near[1], power)

    def log2(self) -> float:
        """Return log2 of the 2-norm over all entries."""
        size = torch.linalg.vector_norm(self.value).double()
        return float(torch.log2(size)) + self.power if size > 0 else LOG2_OF_ZERO


def log2_norm(matrix: Scaled) -> float:
    """Return log2 of the largest singular value of a matrix."""
    largest = torch.linalg.matrix_norm(matrix.value, 2).double()
    return float(torch.log2(largest)) + matrix.power if largest > 0 else LOG2_OF_ZERO
