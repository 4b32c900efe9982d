"""Runs cases: truth and condition once a case, then every side in both lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from crosscheck.cases import Case, RecurrentCase
from crosscheck.causes import likely_cause
from crosscheck.compare import LANES, Lane
from crosscheck.diagnosis import Port, diagnose
from crosscheck.environment import environment
from crosscheck.finding import Finding, Outcome, worst
from crosscheck.judge import Windows, judge
from crosscheck.premises import premise
from crosscheck.problem import Arrays, Problem
from crosscheck.processes import run_all
from crosscheck.reference import Reference, is_chaotic, measure
from crosscheck.sides import SIDES, Side
from crosscheck.verdict import Verdict
from crosscheck.windows import SIZES, calmed, cut_into_windows

OWN_LIMIT = "cannot fail: e_ref, which sets this limit, is this side's own error"


@dataclass(frozen=True)
class CaseResult:
    """One side on one case. ``ok`` where the outcome is the expected one: a control is expected not to agree.

    ``reproduce`` is the command that gives this result again.
    """

    name: str
    side: str
    expected: Outcome
    verdict: Verdict
    seconds: float
    reproduce: str = ""

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    @property
    def ok(self) -> bool:
        return self.outcome is self.expected


def run_suite(cases: Iterable[Case], jobs: int = 1) -> Iterator[list[CaseResult]]:
    """The results of all sides, a list a case, in the order in which cases end.

    With ``jobs`` over 1 cases run in so many processes, the longest first; with one they run here, in order.
    """
    cases = list(cases)
    jobs = min(jobs, len(cases))
    if jobs > 1:
        cases.sort(key=lambda case: -case.steps)
    for _, results in run_all({n: partial(run_case, case) for n, case in enumerate(cases)}, jobs):
        yield results


def run_case(case: Case, reproduce: str = "") -> list[CaseResult]:
    """Every side on one case. Truth and condition are measured once; their time is shared out among the sides."""
    command = reproduce or f"crosscheck --case {case.name}"
    started = time.perf_counter()
    measured = measure_case(case)
    shared = (time.perf_counter() - started) / len(SIDES)
    results = []
    for side in SIDES.values():
        started = time.perf_counter()
        verdict = run_side(measured, side)
        seconds = shared + time.perf_counter() - started
        results.append(CaseResult(case.name, side.name, case.expect, verdict, seconds, command))
    return results


def overall(results: Sequence[CaseResult]) -> Outcome:
    """The gravest outcome that was not expected, if there is one; else the gravest of those that are no control's."""
    failed = [result.outcome for result in results if not result.ok]
    judged = [result.outcome for result in results if result.expected is Outcome.AGREE]
    return worst(failed or judged or [result.outcome for result in results])


@dataclass(frozen=True)
class Measured:
    """A case's reference, the side that is its truth, and once asked for its windows and what degenerates it."""

    case: Case
    reference: Reference
    truth_side: str

    @cached_property
    def premise(self) -> tuple[Finding, ...]:
        return premise(self.case, self.case.problem)

    @cached_property
    def windows(self) -> list[tuple[RecurrentCase, Problem, Reference, str]]:
        if not isinstance(self.case, RecurrentCase):
            return []
        cut = [cut_into_windows(self.case, self.case.problem, size) for size in SIZES if size <= self.case.steps]
        return [(small, problem, *measure_problem(small, problem)) for small, problem in cut]

    @cached_property
    def calm(self) -> tuple[Problem, Reference] | None:
        """The whole sequence at recurrent weights that leave it decidable."""
        if not isinstance(self.case, RecurrentCase):
            return None
        found: list[Reference] = []

        def undecided(problem: Problem) -> bool:
            found.append(measure_problem(self.case, problem)[0])
            return is_chaotic(found[-1])

        problem = calmed(self.case.problem, undecided)
        return None if problem is None else (problem, found[-1])

    def windows_of(self, side: Side, chaotic: bool) -> list[Windows]:
        windows = [
            Windows(f"{small.steps}-step", problem, reference, side.runner(small), lanes_of(side, truth))
            for small, problem, reference, truth in self.windows
        ]
        if chaotic:
            if self.calm is None:
                return []
            exact = tuple(lane for lane in lanes_of(side, self.truth_side) if lane.name == "A")
            windows.append(Windows("calm", *self.calm, side.runner(self.case), exact))
        return windows


def lanes_of(side: Side, truth_side: str) -> tuple[Lane, ...]:
    """The truth is not compared with itself."""
    return tuple(lane for lane in LANES.values() if not (side.name == truth_side and lane.name == "A"))


def measure_case(case: Case) -> Measured:
    return Measured(case, *measure_problem(case, case.problem))


def measure_problem(case: Case, problem: Problem) -> tuple[Reference, str]:
    """The reference of a problem of a case's network, and the name of the side that is its truth.

    That is torch.nn.LSTM in float64, except where torch refuses a row of length 0. e_ref is the larger error of
    torch.nn's two float32 paths on CPU, oneDNN's and its native one.
    """
    empty_row = isinstance(case, RecurrentCase) and case.lengths is not None and 0 in case.lengths
    truth_side = "torch_ref" if empty_row else "torch.nn.LSTM"
    truth, torch_nn = SIDES[truth_side].runner(case), SIDES["torch.nn.LSTM"].runner(case)
    paths: list[Callable[[Problem], Arrays]] = [
        partial(torch_nn, dtype="float32", onednn=onednn) for onednn in (True, False)
    ]
    return measure(problem, partial(truth, dtype="float64"), paths, seed=case.seed), truth_side


def run_side(measured: Measured, side: Side) -> Verdict:
    """All lanes of one side."""
    case, reference, lanes = measured.case, measured.reference, lanes_of(side, measured.truth_side)
    notes = (f"{side.name} in float64 is the truth of this case; lane A has nothing to judge",) * (len(lanes) == 1)
    findings = judge(
        case.problem,
        reference,
        side.runner(case),
        lanes,
        partial(measured.windows_of, side),
        OWN_LIMIT if side.name == "torch.nn.LSTM" else "",
    )
    findings = (*measured.premise, *findings)
    found = diagnose(Port(case, case.problem, side.runner), findings) if isinstance(case, RecurrentCase) else None
    lines = found.lines if found is not None else ()
    return Verdict(findings, notes, likely_cause(findings, reference), lines, environment())
