"""Runs cases: the reference once per case, then every implementation."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from crosscheck.core.errors import first_line
from crosscheck.core.finding import Outcome, worst
from crosscheck.core.processes import run_all
from crosscheck.core.verdict import Verdict
from crosscheck.libraries import (
    BACKENDS,
    STANDARD,
    Implementation,
    NotInstalled,
    NotSupported,
    implementations_named,
)
from crosscheck.lstm.cases import Case
from crosscheck.suite.measured_case import assess_implementation, measure_case

SUITE = tuple(STANDARD | BACKENDS)  # the names that the standard suite judges


@dataclass(frozen=True)
class CaseResult:
    """The verdict on one implementation in one case.

    Attributes:
      name: the case.
      implementation: the implementation.
      expected: the outcome that a right implementation has. A control is expected not to agree.
      verdict: the verdict.
      seconds: how long it took.
      reproduce: the command that gives this result again.
    """

    name: str
    implementation: str
    expected: Outcome
    verdict: Verdict
    seconds: float
    reproduce: str = ""

    @property
    def outcome(self) -> Outcome:
        """The outcome of the verdict."""
        return self.verdict.outcome

    @property
    def ok(self) -> bool:
        """Whether the outcome is the expected one."""
        return self.outcome is self.expected


class Absence(StrEnum):
    """Why an implementation has no answer to a case. The value is its name in results."""

    NOT_SUPPORTED = "not supported"
    NOT_INSTALLED = "not installed"
    COULD_NOT_RUN = "could not run"


@dataclass(frozen=True)
class NoResult:
    """An implementation without an answer to a case.

    Attributes:
      name: the case.
      implementation: the implementation.
      what: the kind of reason.
      reason: the reason in words.
    """

    name: str
    implementation: str
    what: Absence
    reason: str


@dataclass(frozen=True)
class CaseResults:
    """All implementations in one case: those that were judged, and those that have no answer."""

    judged: list[CaseResult]
    without: list[NoResult]


def run_suite(
    cases: Iterable[Case],
    jobs: int = 1,
    names: Sequence[str] = SUITE,
    explain: bool = True,
    begins: Callable[[str], None] = lambda name: None,
) -> Iterator[CaseResults]:
    """Run cases and give the results of each as it ends.

    Args:
      cases: the cases.
      jobs: the number of processes. With more than one, the longest case is first; with one, cases run here, in order.
      names: the implementations.
      explain: look for the mistake of an implementation that disagrees.
      begins: called with the name of a case as it begins.
    """
    cases = list(cases)
    jobs = min(jobs, len(cases))
    if jobs > 1:
        cases.sort(key=lambda case: -case.steps)
    tasks = {n: partial(run_implementations, case, tuple(names), explain=explain) for n, case in enumerate(cases)}
    for _, results in run_all(tasks, jobs, lambda n: begins(cases[n].name)):
        yield results


def run_case(case: Case, reproduce: str = "") -> list[CaseResult]:
    """Run the implementations that answer every case in one: jax_lstm, torch_ref and torch.nn.LSTM."""
    return run_implementations(case, tuple(STANDARD), reproduce).judged


def run_implementations(case: Case, names: Sequence[str], reproduce: str = "", explain: bool = True) -> CaseResults:
    """Run implementations in one case. The reference is measured once; its time is shared out among them."""
    started = time.perf_counter()
    measured = measure_case(case)
    shared = (time.perf_counter() - started) / len(names)
    results = CaseResults([], [])
    for implementation in implementations_named(names):
        started = time.perf_counter()
        try:
            verdict = assess_implementation(measured, implementation, explain)
        except _excused(implementation) as error:
            results.without.append(NoResult(case.name, implementation.name, _absence(error), first_line(error)))
            continue
        seconds = shared + time.perf_counter() - started
        against = "" if implementation.name in STANDARD else f" --against {shlex.quote(implementation.name)}"
        command = reproduce or f"crosscheck --case {case.name}{against}"
        expected = _expected(case, implementation)
        results.judged.append(CaseResult(case.name, implementation.name, expected, verdict, seconds, command))
    return results


def _excused(implementation: Implementation) -> tuple[type[Exception], ...]:
    """Return the errors that stand for a missing answer. Any other error ends the run."""
    if implementation.name in STANDARD:
        return ()
    return (NotSupported, NotInstalled) if implementation.name in BACKENDS else (Exception,)


def _expected(case: Case, implementation: Implementation) -> Outcome:
    """Return what a right implementation gets. Only the gradients of a control have nothing to compare."""
    if case.expect is Outcome.VACUOUS and not implementation.gradients:
        return Outcome.AGREE
    return case.expect


def _absence(error: Exception) -> Absence:
    if isinstance(error, NotSupported):
        return Absence.NOT_SUPPORTED
    return Absence.NOT_INSTALLED if isinstance(error, NotInstalled) else Absence.COULD_NOT_RUN


def overall(results: Sequence[CaseResult]) -> Outcome:
    """Return the gravest unexpected outcome; without one, the gravest outcome of cases that are no controls."""
    failed = [result.outcome for result in results if not result.ok]
    judged = [result.outcome for result in results if result.expected is Outcome.AGREE]
    return worst(failed or judged or [result.outcome for result in results])
