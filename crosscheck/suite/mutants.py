"""Mutants of the comparer itself: each is a way in which a checker can be blind, and the score has to show it.

A mutant is noticed if, with the comparer so broken, some fault survives or some right side is not said to agree. Every
mutant judges the results that the sound comparer has judged, so that a fault runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from crosscheck.core import criterion, judge
from crosscheck.core.finding import Finding, Outcome, worst
from crosscheck.core.judge import Run
from crosscheck.core.norms import row_norms
from crosscheck.core.problem import Problem, Results, is_gradient
from crosscheck.core.reference import Reference
from crosscheck.diagnosis.inputs import check_inputs
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES
from crosscheck.suite.measured_case import measure_problem


class Recorded:
    """A run that remembers its results on one problem, by dtype and by the size of the cotangents."""

    def __init__(self, run: Run):
        self._run = run
        self._results: dict[tuple[Any, ...], Results] = {}

    def __call__(self, problem: Problem, dtype: str) -> Results:
        key = (dtype, *(float(np.max(np.abs(a))) for a in problem.cotangents))
        if key not in self._results:
            self._results[key] = self._run(problem, dtype)
        return self._results[key]


@dataclass(frozen=True)
class Trial:
    """A case, the faults that apply to it, and right sides."""

    case: RecurrentCase
    faults: Mapping[str, Recorded]
    right: Mapping[str, Recorded]


@dataclass(frozen=True)
class Mutant:
    """One way to break the comparison: a context in which the comparer is ``broken``, the ``criteria`` that it runs, the
    findings that are ``judged``, or inputs made ``degenerate``.
    """

    description: str
    broken: Callable[[], AbstractContextManager] = nullcontext
    criteria: tuple[criterion.Criterion, ...] = tuple(criterion.CRITERIA.values())
    judged: Callable[[Finding], bool] = lambda finding: True
    degenerate: Callable[[Problem], Problem] | None = None

    def notice(self, trial: Trial) -> str:
        """How the score shows the mutant; "" where it does not."""
        problem = trial.case.problem
        if self.degenerate is not None:
            found = check_inputs(trial.case, self.degenerate(problem))
            return found[0].note if found else ""
        reference = measure_problem(trial.case, problem)
        with self.broken():
            outcome = lambda runs: {name: self._outcome(problem, reference, run) for name, run in runs.items()}
            survived = [name for name, o in outcome(trial.faults).items() if o is not Outcome.DISAGREE]
            alarms = [name for name, o in outcome(trial.right).items() if o is not Outcome.AGREE]
        shown = [f"{len(survived)} of {len(trial.faults)} faults survive, such as {survived[0]}"] if survived else []
        shown += [f"{len(alarms)} of {len(trial.right)} right sides do not agree"] if alarms else []
        return "; ".join(shown)

    def _outcome(self, problem: Problem, reference: Reference, run: Run) -> Outcome:
        findings = judge.run_checks(problem, reference, run, self.criteria)
        return worst(f.final for f in findings if self.judged(f))


def _nan_is_nothing(problem, reference, result, criterion_, note="") -> list[Finding]:
    truth = reference.truth
    filled = {n: np.where(np.isnan(a), truth[n], a).astype(a.dtype) if n in truth else a for n, a in result.items()}
    return criterion.compare(problem, reference, filled, criterion_, note)


def _signed(rows: np.ndarray) -> np.ndarray:
    """The mean of the differences, in which they cancel, in the place of both norms."""
    mean = np.abs(rows.mean(axis=1))
    return np.stack([mean * np.sqrt(rows.shape[1]), mean])


def _zero_states(problem: Problem) -> Problem:
    x, (h, c) = problem.inputs
    return replace(problem, inputs=(x, (np.zeros_like(h), np.zeros_like(c))))


def _constant_weights(problem: Problem) -> Problem:
    return replace(problem, params={name: np.full_like(a, 0.1) for name, a in problem.params.items()})


def _equal_gates(problem: Problem) -> Problem:
    alike = lambda a: np.concatenate([a[: len(a) // 4]] * 4) if len(a) % len(GATES) == 0 else a
    return replace(problem, params={name: alike(a) for name, a in problem.params.items()})


MUTANTS: dict[str, Mutant] = {
    "empty-zip": Mutant(
        "compares no quantity at all",
        lambda: patch.object(judge, "compare", lambda *a, **k: []),
    ),
    "signed-sum": Mutant(
        "sums differences with their signs",
        lambda: patch.object(criterion, "row_norms", _signed),
    ),
    "nan-to-zero": Mutant(
        "takes the difference to NaN for zero",
        lambda: patch.object(judge, "compare", _nan_is_nothing),
    ),
    "outputs-alone": Mutant(
        "compares no gradient",
        judged=lambda finding: not is_gradient(finding.quantity),
    ),
    "one-precision": Mutant(
        "compares in float32 alone",
        criteria=(criterion.CRITERIA["float32"],),
    ),
    "loose": Mutant(
        "lets everything within 10 % pass",
        lambda: patch.object(
            criterion, "row_norms", lambda rows: np.where(row_norms(rows) < 0.1, 0.0, row_norms(rows))
        ),
    ),
    "zero-states": Mutant("compares with zero initial states", degenerate=_zero_states),
    "constant-weights": Mutant("compares with constant weights", degenerate=_constant_weights),
    "equal-gates": Mutant("compares with the same weights for every gate", degenerate=_equal_gates),
}
