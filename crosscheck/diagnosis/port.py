"""A port under diagnosis: it can be run again, on other problems of the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from crosscheck.core.judge import Run
from crosscheck.core.problem import Problem, Results
from crosscheck.libraries import torch_ref
from crosscheck.lstm.cases import RecurrentCase

# Of a single step, relative: what rounding never reaches in a right port, and a mistake that matters does.
WRONG = {"float64": 1e-11, "float32": 2e-6}


@dataclass(frozen=True)
class Port:
    """case: the network and its options; problem: what it failed on; runner: the port for a case of other sizes."""

    case: RecurrentCase
    problem: Problem
    runner: Callable[[RecurrentCase], Run]
    stateless: bool = False  # it takes no initial states: they are zero

    def __post_init__(self):
        object.__setattr__(self, "runner", lru_cache(maxsize=8)(self.runner))  # a case compiles once

    def draw(self, case: RecurrentCase) -> Problem:
        """A random problem of a case, with zero states where the port takes none."""
        problem = case.problem
        if not self.stateless:
            return problem
        x, states = problem.inputs
        return replace(problem, inputs=(x, tuple(map(np.zeros_like, states))), wrt=(*problem.params, "x"))

    def run(self, case: RecurrentCase, problem: Problem, dtype: str = "float64") -> Results:
        return self.runner(case)(problem, dtype)


def truth(case: RecurrentCase, problem: Problem) -> Results:
    return torch_ref.runner(case)(problem, "float64")


def off(got: np.ndarray, expected: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Largest difference along all other axes, relative to the largest number of the whole; inf where not finite."""
    expected, got = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    away = np.abs(got - expected)
    away[~np.isfinite(away)] = np.inf
    if axis is not None:
        away = np.moveaxis(away, axis, 0).reshape(away.shape[axis], -1)
    largest = float(np.max(np.abs(expected), initial=0.0)) or 1.0
    return np.max(away, axis=-1 if axis is not None else None, initial=0.0) / largest
