"""The truth and how well it can be known: float64 values, the condition of each quantity, the reference's own error.

κ is measured, not derived: every weight, input and cotangent is moved by one float32 rounding up or down at random, and
κu is the largest relative response of three such draws in float64. e_ref is the largest error of the reference's own
float32 paths. Both are computed once a problem and shared by all sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crosscheck.finding import CouldNotRun
from crosscheck.problem import Arrays, Problem

U32 = 2.0**-24
U64 = 2.0**-53
DRAWS = 3


@dataclass(frozen=True)
class Reference:
    truth: Arrays
    condition: dict[str, float]  # κ: relative response per relative perturbation
    own_error: dict[str, float]  # e_ref, relative, in float32
    response: dict[str, float]  # absolute response per relative perturbation: all there is where the truth is zero


def measure(
    problem: Problem,
    truth: Callable[[Problem], Arrays],
    float32_paths: Sequence[Callable[[Problem], Arrays]],
    seed: int = 0,
) -> Reference:
    """Runs ``truth`` in float64 on the problem and on its perturbations, and each of the reference's float32 paths."""
    rng = np.random.default_rng([seed, 0x6B])
    values = problem.with_slices(truth(problem))
    for name, value in values.items():
        if value.dtype.kind == "f" and value.dtype != np.float64:
            raise CouldNotRun(f"the reference gives {name} as {value.dtype} when run in float64: there is no truth.")
    condition = dict.fromkeys(values, 0.0)
    response = dict.fromkeys(values, 0.0)
    for _ in range(DRAWS):
        moved = problem.with_slices(truth(problem.perturbed(rng, U32)))
        for name, value in values.items():
            condition[name] = max(condition[name], relative(moved[name], value) / U32)
            response[name] = max(response[name], distance(moved[name], value) / U32)
    own_error = dict.fromkeys(values, 0.0)
    for path in float32_paths:
        narrow = problem.with_slices(path(problem))
        for name, value in values.items():
            own_error[name] = max(own_error[name], relative(narrow[name], value))
    return Reference(values, condition, own_error, response)


def relative(a: np.ndarray, truth: np.ndarray) -> float:
    """‖a − truth‖ / ‖truth‖ where the truth is finite; 0 where it is all zero, inf where a is not finite and it is."""
    size = norm(truth[np.isfinite(truth)])
    return distance(a, truth) / size if size else 0.0


def distance(a: np.ndarray, truth: np.ndarray) -> float:
    """‖a − truth‖ where the truth is finite."""
    finite = np.isfinite(truth)
    difference = np.asarray(a, np.float64)[finite] - truth[finite]
    return norm(difference) if np.isfinite(difference).all() else float("inf")


def norm(a: np.ndarray) -> float:
    """The 2-norm with its exponent scaled out, so that squares of small numbers do not underflow."""
    scale = float(np.max(np.abs(a), initial=0.0))
    if scale == 0.0 or not np.isfinite(scale):
        return scale
    return scale * float(np.linalg.norm(np.ravel(a / scale)))
