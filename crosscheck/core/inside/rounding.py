"""Rounding measured inside a program: the response of every slice to small errors in every operation.

A float64 run repeats with each operation's result multiplied by 1 ± size, and with the inputs moved as well. The
largest response of some draws, per unit of size, is the rounding that a program of this kind cannot avoid. It is an
absolute number, so that it also holds for a quantity that is zero except for rounding (Monte Carlo arithmetic: Parker
1997; Denis, de Oliveira Castro, Petit 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from crosscheck.core.conditioning import U32, Reference
from crosscheck.core.finding import Precision
from crosscheck.core.norms import row_norms
from crosscheck.core.problem import Problem, Quantity, Results
from crosscheck.core.reference import difference, slice_up
from crosscheck.core.slices import Scope

DRAWS = 4
SMALL = 2.0**-44  # far above the rounding of float64, far below what bends a function
Responses: TypeAlias = dict[Quantity, dict[Scope, np.ndarray]]
NoisyRun: TypeAlias = Callable[[Problem, float, int], Results]  # (problem, size, seed) -> results in float64


@dataclass(frozen=True)
class Rounding:
    """Absolute responses per unit of relative error, ``[2 norms, rows]`` by quantity and scope.

    Attributes:
      small: the response to errors of 2^-44, for the float64 check.
      large: the response to errors of the size of float32's rounding, for the other checks.
    """

    small: Responses
    large: Responses

    def of(self, precision: Precision, name: Quantity, scope: Scope) -> np.ndarray:
        """Return the response for a check in ``precision``."""
        return (self.small if precision == "float64" else self.large)[name][scope]


def measure_rounding(problem: Problem, reference: Reference, run: NoisyRun, seed: int) -> Rounding:
    """Return the rounding inside a program.

    Args:
      problem: the problem.
      reference: its reference, which gives the slices.
      run: runs the program in float64 with errors inside.
      seed: the seed of the errors.
    """
    exact = run(problem, 0.0, seed)
    return Rounding(*(_responses(problem, reference, exact, run, seed, size) for size in (SMALL, U32)))


def _responses(
    problem: Problem, reference: Reference, exact: Results, run: NoisyRun, seed: int, size: float
) -> Responses:
    def moved() -> Iterator[Results]:
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, 0x51, draw])
            yield run(problem.perturbed(rng, size), size, int(rng.integers(2**62)))

    return responses_of(problem, reference, exact, moved(), size)


def responses_of(
    problem: Problem, reference: Reference, exact: Results, moved: Iterable[Results], size: float
) -> Responses:
    """Return the largest change of every slice among moved results, per unit of ``size``."""
    responses: Responses = {name: {} for name in exact}
    for results in moved:
        for name, value in exact.items():
            change = difference(results[name], value)
            for scope, rows in slice_up(change, problem.slicings.get(name), reference.outliers.get(name)).items():
                known = responses[name].get(scope, 0.0)
                responses[name][scope] = np.fmax(known, row_norms(rows) / size)
    return responses
