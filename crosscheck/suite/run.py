"""Runs cases: truth and condition once a case, then every side in both lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from crosscheck.core.criterion import LANES, Lane
from crosscheck.core.environment import environment
from crosscheck.core.finding import Finding, Kind, Outcome, worst
from crosscheck.core.judge import Windows, judge, no_windows
from crosscheck.core.problem import Arrays, Problem
from crosscheck.core.processes import run_all
from crosscheck.core.reference import Reference, is_chaotic, measure
from crosscheck.core.verdict import Verdict
from crosscheck.diagnosis import Port, diagnose
from crosscheck.diagnosis.causes import likely_cause
from crosscheck.diagnosis.inputs import premise
from crosscheck.libraries import PEERS, SIDES, NotInstalled, NotSupported, Side, choose
from crosscheck.lstm.cases import Case, RecurrentCase
from crosscheck.lstm.teacher_forcing import SIZES, calmed, cut_into_windows

OF_TORCH = ("torch.nn.LSTM", "torch.nn.LSTM/native")  # one program in float64, which oneDNN does not have


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


@dataclass(frozen=True)
class NoResult:
    """A side that has no answer to a case: "not supported", "not installed" or "could not run", and the reason."""

    name: str
    side: str
    what: str
    reason: str


@dataclass(frozen=True)
class CaseResults:
    """Every side on one case: those that were judged, and those that have no answer."""

    judged: list[CaseResult]
    without: list[NoResult]


def run_suite(
    cases: Iterable[Case],
    jobs: int = 1,
    sides: Sequence[str] = tuple(SIDES),
    explain: bool = True,
    begins: Callable[[str], None] = lambda name: None,
) -> Iterator[CaseResults]:
    """The results of all ``sides``, by name, in the order in which cases end. ``begins(name)`` as a case begins.

    With ``jobs`` over 1 cases run in so many processes, the longest first; with one they run here, in order.
    """
    cases = list(cases)
    jobs = min(jobs, len(cases))
    if jobs > 1:
        cases.sort(key=lambda case: -case.steps)
    pieces = {n: partial(run_sides, case, tuple(sides), explain=explain) for n, case in enumerate(cases)}
    for _, results in run_all(pieces, jobs, lambda n: begins(cases[n].name)):
        yield results


def run_case(case: Case, reproduce: str = "") -> list[CaseResult]:
    """The sides of the standard suite on one case."""
    return run_sides(case, tuple(SIDES), reproduce).judged


def run_sides(case: Case, sides: Sequence[str], reproduce: str = "", explain: bool = True) -> CaseResults:
    """``sides`` on one case. Truth and condition are measured once; their time is shared out among the sides.

    ``explain``: look for what a side that disagrees has done, which takes a while.
    """
    started = time.perf_counter()
    measured = measure_case(case)
    shared = (time.perf_counter() - started) / len(sides)
    results = CaseResults([], [])
    for side in choose(sides):
        started = time.perf_counter()
        try:
            verdict = run_side(measured, side, explain)
        except Exception as error:
            if side.name not in PEERS:  # only other libraries may lack an answer
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            results.without.append(NoResult(case.name, side.name, _kind(error), reason))
            continue
        seconds = shared + time.perf_counter() - started
        against = f" --against {side.name}" if side.name in PEERS else ""
        command = reproduce or f"crosscheck --case {case.name}{against}"
        results.judged.append(CaseResult(case.name, side.name, _expected(case, side), verdict, seconds, command))
    return results


def _expected(case: Case, side: Side) -> Outcome:
    """What a right side gets. A control has nothing to compare in its gradients; its outputs agree as anywhere else."""
    if case.expect is Outcome.VACUOUS and not side.gradients:
        return Outcome.AGREE
    return case.expect


def _kind(error: Exception) -> str:
    if isinstance(error, NotSupported):
        return "not supported"
    return "not installed" if isinstance(error, NotInstalled) else "could not run"


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
            Windows(Kind.TEACHER_FORCED, problem, reference, side.runner(small), lanes_of(side, truth), small.steps)
            for small, problem, reference, truth in self.windows
        ]
        if chaotic:
            if self.calm is None:
                return []
            exact = tuple(lane for lane in lanes_of(side, self.truth_side) if lane.dtype == "float64")
            windows.append(Windows(Kind.DAMPED, *self.calm, side.runner(self.case), exact))
        return windows


def lanes_of(side: Side, truth_side: str) -> tuple[Lane, ...]:
    """Those that the side computes in; the truth is not compared with itself."""
    known = [lane for lane in LANES.values() if lane.dtype in side.dtypes]
    return tuple(lane for lane in known if not (lane.dtype == "float64" and is_truth(side, truth_side)))


def is_truth(side: Side, truth_side: str) -> bool:
    """Is it the side that gives the truth, or another name of the same program?"""
    return side.name == truth_side or (side.name in OF_TORCH and truth_side in OF_TORCH)


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


def run_side(measured: Measured, side: Side, explain: bool = True) -> Verdict:
    """All lanes of one side. NotSupported, NotInstalled.

    ``explain``: look for what a side that disagrees has done, which takes a while.
    """
    case, findings = measured.case, (*measured.premise, *judge_side(measured, side))
    lines: tuple[str, ...] = ()
    if explain and side.gradients and isinstance(case, RecurrentCase):
        found = diagnose(Port(case, case.problem, side.runner), findings)
        lines = found.lines if found is not None else ()
    cause = likely_cause(findings, measured.reference)
    return Verdict(findings, _notes(measured, side), cause, lines, environment())


def judge_side(measured: Measured, side: Side) -> tuple[Finding, ...]:
    """The findings of all lanes of one side. NotSupported, NotInstalled."""
    problem, reference = measured.case.problem, measured.reference
    if not side.gradients:
        problem, reference = outputs_alone(problem, reference)
    lanes = lanes_of(side, measured.truth_side)
    if side.name in OF_TORCH:  # e_ref is measured on them
        lanes = tuple(replace(lane, own_limit=lane.dtype == "float32") for lane in lanes)
    return judge(
        problem,
        reference,
        side.runner(measured.case),
        lanes,
        partial(measured.windows_of, side) if side.gradients else no_windows,
        is_truth(side, measured.truth_side),
    )


def _notes(measured: Measured, side: Side) -> tuple[str, ...]:
    return (
        *["in float64 this side is the truth of this case; lane A has nothing to judge"]
        * is_truth(side, measured.truth_side),
        *[f"{side.name} does not compute in float64: lane B alone"] * ("float64" not in side.dtypes),
        *[f"{side.name} has no gradients: outputs alone"] * (not side.gradients),
    )


def outputs_alone(problem: Problem, reference: Reference) -> tuple[Problem, Reference]:
    """A problem and its reference without gradients."""
    outputs = set(problem.output_names)
    truth = {name: value for name, value in reference.truth.items() if name in outputs}
    known = {name: parts for name, parts in reference.known.items() if name in outputs}
    return replace(problem, wrt=()), replace(reference, truth=truth, known=known, shifted=None)
