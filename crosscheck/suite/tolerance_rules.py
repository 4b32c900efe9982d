"""Rules in use elsewhere, as data: each compares a port's float32 results with the reference's.

A port fails a rule if it lacks a quantity that the rule compares, or if a shape differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from crosscheck.core.problem import Gradient, Problem, Quantity, Results

Close: TypeAlias = Callable[[np.ndarray, np.ndarray], bool]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
      name: its name.
      description: who uses it, and what it compares.
      close: returns whether it accepts ``(port, reference)`` of one quantity.
      gradients: whether it compares gradients too.
    """

    name: str
    description: str
    close: Close
    gradients: bool

    def passes(self, port: Results, reference: Results, problem: Problem) -> bool:
        """Return whether the rule accepts a port, by float32 results."""
        names: list[Quantity] = [*problem.output_names, *(Gradient(name) for name in problem.wrt if self.gradients)]
        return all(
            name in port and port[name].shape == reference[name].shape and self.close(port[name], reference[name])
            for name in names
        )


def _nan_to_zero(port: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether the largest difference is at most 1e-5. A NaN on either side counts as no difference."""
    either = np.isnan(port) | np.isnan(reference)
    a, b = np.where(either, 0, port), np.where(either, 0, reference)
    return bool(np.max(np.abs(a - b), initial=0.0) <= 1e-5)


def _assert_close(port: np.ndarray, reference: np.ndarray) -> bool:
    try:
        torch.testing.assert_close(torch.tensor(port), torch.tensor(reference))
    except AssertionError:
        return False
    return True


def _within(rtol: float, atol: float, equal_nan: bool = False) -> Close:
    return lambda port, reference: bool(np.allclose(port, reference, rtol=rtol, atol=atol, equal_nan=equal_nan))


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "hugging-face",
            "Hugging Face, PyTorch against Flax: outputs within 1e-5, NaN on either side as 0",
            _nan_to_zero,
            gradients=False,
        ),
        Rule(
            "onnx",
            "ONNX backend tests: outputs within 1e-3 of the reference and 1e-7",
            _within(1e-3, 1e-7, equal_nan=True),
            gradients=False,
        ),
        Rule(
            "flashrnn",
            "FlashRNN's float32 tests: outputs and gradients within 0.2 of the reference and 0.1",
            _within(0.2, 0.1),
            gradients=True,
        ),
        Rule(
            "torch-assert_close",
            "torch.testing.assert_close by default: outputs and gradients, 1.3e-6 and 1e-5",
            _assert_close,
            gradients=True,
        ),
        Rule(
            "numpy-allclose",
            "numpy.allclose by default: outputs and gradients, 1e-5 of the reference and 1e-8",
            _within(1e-5, 1e-8),
            gradients=True,
        ),
    )
}
