"""The implementation under diagnosis: it can run again, on other problems of the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from crosscheck.core.errors import OnlyOwnSizes, run_at_other_sizes
from crosscheck.core.judge import Run
from crosscheck.core.problem import Problem, Results
from crosscheck.libraries import torch_ref
from crosscheck.lstm.cases import RecurrentCase

# The relative error of a single step that is wrong. Rounding never reaches it, and a mistake that matters exceeds it.
WRONG = {"float64": 1e-11, "float32": 2e-6}


@dataclass(frozen=True)
class Subject:
    """The implementation under diagnosis.

    Attributes:
      case: the network and its options.
      problem: the problem on which it disagrees.
      runner: returns its run for a case of other sizes.
      stateless: whether it takes no initial states. They are then zero.
    """

    case: RecurrentCase
    problem: Problem
    runner: Callable[[RecurrentCase], Run]
    stateless: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "runner", lru_cache(maxsize=8)(self.runner))  # so that a case compiles once

    def draw(self, case: RecurrentCase) -> Problem:
        """Return a random problem of a case, with zero states if the implementation takes none."""
        problem = case.problem
        if not self.stateless:
            return problem
        x, states = problem.inputs
        return replace(problem, inputs=(x, tuple(map(np.zeros_like, states))), wrt=(*problem.params, "x"))

    def run(self, case: RecurrentCase, problem: Problem, dtype: str) -> Results:
        """Return the results of the implementation on a problem of a case.

        Raises:
          OnlyOwnSizes: it does not run on this problem, or an output has another shape.
        """
        results = run_at_other_sizes(lambda: self.runner(case)(problem, dtype))
        for name, cotangent in zip(problem.output_names, problem.cotangents, strict=True):
            if name not in results or np.shape(results[name]) != np.shape(cotangent):
                raise OnlyOwnSizes(f"{name} has another shape than {np.shape(cotangent)}")
        return results


def truth(case: RecurrentCase, problem: Problem) -> Results:
    """Return the results of the reference in float64."""
    results: Results = torch_ref.runner(case)(problem, "float64")
    return results


def relative_errors(got: np.ndarray, expected: np.ndarray, parts: int) -> np.ndarray:
    """Return the largest difference in equal parts of the first axis, as `relative_error` does for the whole."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    away = np.abs(got - expected)
    largest = float(np.max(np.abs(expected), initial=0.0)) or 1.0
    errors: np.ndarray = np.where(np.isfinite(away), away, np.inf).reshape(parts, -1).max(1, initial=0.0) / largest
    return errors


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest number; inf if it is not finite."""
    return float(relative_errors(got, expected, 1)[0])
