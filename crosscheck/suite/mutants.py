"""Mutants of the comparer: each is blind in one way, and the mutation score must show it.

A mutant is noticed if some fault survives with it, or if some right implementation does not agree. All mutants judge
the results that the sound comparer judges, so that every fault runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from crosscheck.core.comparison import Comparer, compare
from crosscheck.core.conditioning import Reference
from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.finding import Finding, Outcome, worst
from crosscheck.core.judge import Run, run_checks
from crosscheck.core.norms import row_norms
from crosscheck.core.problem import Problem, Results, is_gradient
from crosscheck.diagnosis.inputs import check_inputs
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES
from crosscheck.suite.measured_case import measure_problem


class Recorded:
    """A run that remembers its results on one problem, by dtype and by the size of the cotangents."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._results: dict[tuple[str, tuple[float, ...]], Results] = {}

    def __call__(self, problem: Problem, dtype: str) -> Results:
        key = dtype, tuple(float(np.max(np.abs(a))) for a in problem.cotangents)
        if key not in self._results:
            self._results[key] = self._run(problem, dtype)
        return self._results[key]


@dataclass(frozen=True)
class Programs:
    """What a mutant judges: the faults that apply to a case, and right implementations."""

    case: RecurrentCase
    faults: Mapping[str, Recorded]
    right: Mapping[str, Recorded]


@dataclass(frozen=True)
class Mutant:
    """One way to break the comparison.

    Attributes:
      description: what it does.
      comparer: applies the criterion.
      criteria: the precision checks that run.
      counts: which findings count.
      degenerate: makes the inputs degenerate. Then the check of the inputs must notice it.
    """

    description: str
    comparer: Comparer = compare
    criteria: tuple[Criterion, ...] = tuple(CRITERIA.values())
    counts: Callable[[Finding], bool] = lambda finding: True
    degenerate: Callable[[Problem], Problem] | None = None

    def notice(self, programs: Programs) -> str:
        """Return how the mutation score shows the mutant; "" if it does not."""
        problem = programs.case.problem
        if self.degenerate is not None:
            findings = check_inputs(programs.case, self.degenerate(problem))
            return findings[0].note if findings else ""
        outcome = partial(self._outcome, problem, measure_problem(programs.case, problem))
        survived = [name for name, run in programs.faults.items() if outcome(run) is not Outcome.DISAGREE]
        alarms = [name for name, run in programs.right.items() if outcome(run) is not Outcome.AGREE]
        shown = [f"{len(survived)} of {len(programs.faults)} faults survive, such as {survived[0]}"] if survived else []
        shown += [f"{len(alarms)} of {len(programs.right)} right implementations do not agree"] if alarms else []
        return "; ".join(shown)

    def _outcome(self, problem: Problem, reference: Reference, run: Run) -> Outcome:
        findings = run_checks(problem, reference, run, self.criteria, comparer=self.comparer)
        return worst(f.final for f in findings if self.counts(f))


def _compare_nothing(
    problem: Problem, reference: Reference, result: Results, criterion: Criterion, note: str = ""
) -> list[Finding]:
    return []


def _nan_is_zero(
    problem: Problem, reference: Reference, result: Results, criterion: Criterion, note: str = ""
) -> list[Finding]:
    truth = reference.truth
    filled = {n: np.where(np.isnan(a), truth[n], a).astype(a.dtype) if n in truth else a for n, a in result.items()}
    return compare(problem, reference, filled, criterion, note)


def _signed(rows: np.ndarray) -> np.ndarray:
    """Return the mean of the differences, in which they cancel, in place of both norms."""
    mean = np.abs(rows.mean(axis=1))
    return np.stack([mean * np.sqrt(rows.shape[1]), mean])


def _loose(rows: np.ndarray) -> np.ndarray:
    return np.where(row_norms(rows) < 0.1, 0.0, row_norms(rows))


def _zero_states(problem: Problem) -> Problem:
    x, (h, c) = problem.inputs
    return replace(problem, inputs=(x, (np.zeros_like(h), np.zeros_like(c))))


def _constant_weights(problem: Problem) -> Problem:
    return replace(problem, params={name: np.full_like(a, 0.1) for name, a in problem.params.items()})


def _equal_gates(problem: Problem) -> Problem:
    def equal(a: np.ndarray) -> np.ndarray:
        return np.concatenate([a[: len(a) // 4]] * 4) if len(a) % len(GATES) == 0 else a

    return replace(problem, params={name: equal(a) for name, a in problem.params.items()})


MUTANTS: dict[str, Mutant] = {
    "empty-zip": Mutant("compares no quantity at all", comparer=_compare_nothing),
    "signed-sum": Mutant("sums differences with their signs", comparer=partial(compare, norms=_signed)),
    "nan-to-zero": Mutant("takes the difference to NaN for zero", comparer=_nan_is_zero),
    "only-outputs": Mutant("compares no gradient", counts=lambda finding: not is_gradient(finding.quantity)),
    "one-precision": Mutant("compares only in float32", criteria=(CRITERIA["float32"],)),
    "loose": Mutant("lets everything within 10 % pass", comparer=partial(compare, norms=_loose)),
    "zero-states": Mutant("compares with zero initial states", degenerate=_zero_states),
    "constant-weights": Mutant("compares with constant weights", degenerate=_constant_weights),
    "equal-gates": Mutant("compares with the same weights for every gate", degenerate=_equal_gates),
}
