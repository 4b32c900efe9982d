"""Whether an implementation computes what torch.nn.LSTM computes. This is checked before anything is timed.

Every quantity has one limit, relative to its norm: 64 roundings of the run's precision. If √T/4 is more than 1, the
limit is multiplied by it, since sums of T rounded terms need that. The limit is never over a tenth. In float32, the
errors of right programs stay under a tenth of the limit. A wrong gate order or a missing bias has an error of some
tenths or over 1. TF32 in a run of float32 has an error of 3e-4. In a narrow precision the check is weak, so the same
adapter also passes it in float32.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.work import Work
from crosscheck.core.problem import Quantity, Results

ROUNDING = {"float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-8, "float16": 2.0**-11}
MOST = 0.1


def limit(work: Work) -> float:
    """Return the largest relative error that counts as rounding."""
    return min(MOST, 64 * ROUNDING[work.precision] * max(1.0, math.sqrt(work.shape.steps) / 4))


def worst(work: Work, expected: Results, got: Results) -> tuple[Quantity, float]:
    """Return the quantity with the largest error, and this error relative to the quantity's norm.

    The error of a quantity that is missing or not finite is infinite. The loss is a sum of products of either sign, so
    its error is relative to the norms of its factors.
    """
    wanted = [name for name in expected if name != "y" or work.kind == "forward"]
    scale: dict[Quantity, float] = {"loss": float(np.linalg.norm(expected["y"]) * np.linalg.norm(work.cotangent))}
    errors = {name: _error(expected[name], got.get(name), scale.get(name)) for name in wanted}
    name = max(errors, key=errors.__getitem__)
    return name, errors[name]


def _error(expected: np.ndarray, got: np.ndarray | None, scale: float | None) -> float:
    if got is None or got.shape != expected.shape:
        return math.inf
    difference = float(np.linalg.norm((got.astype(np.float64) - expected).ravel()))
    size = scale or float(np.linalg.norm(expected.astype(np.float64).ravel()))
    error = difference / size if size else (0.0 if difference == 0 else math.inf)
    return error if math.isfinite(error) else math.inf
