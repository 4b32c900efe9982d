"""Runs cases: truth and condition once a case, then every side in both lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

from crosscheck.cases import Case, RecurrentCase
from crosscheck.causes import likely_cause
from crosscheck.compare import LANES, compare
from crosscheck.environment import environment
from crosscheck.finding import Finding, Outcome, worst
from crosscheck.problem import Arrays, Problem
from crosscheck.reference import Reference, measure
from crosscheck.sides import SIDES, Side
from crosscheck.verdict import Verdict

OWN_LIMIT = "cannot fail: e_ref, which sets this limit, is this side's own error"


@dataclass(frozen=True)
class CaseResult:
    """One side on one case. ``ok`` where the outcome is the expected one: a control is expected not to agree."""

    name: str
    side: str
    expected: Outcome
    verdict: Verdict
    seconds: float

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    @property
    def ok(self) -> bool:
        return self.outcome is self.expected

    @property
    def reproduce(self) -> str:
        return f"crosscheck --case {self.name}"


def run_suite(cases: Iterable[Case], jobs: int = 1) -> Iterator[list[CaseResult]]:
    """The results of all sides, a list a case, in the order in which cases end.

    With ``jobs`` over 1 cases run in so many processes, the longest first; with one they run here, in order.
    """
    cases = list(cases)
    jobs = min(jobs, len(cases))
    if jobs <= 1:
        yield from map(run_case, cases)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(run_case, case) for case in sorted(cases, key=lambda case: -case.steps)]
        try:
            for done in as_completed(running):
                yield done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_case(case: Case) -> list[CaseResult]:
    """Every side on one case. Truth and condition are measured once; their time is shared out among the sides."""
    started = time.perf_counter()
    reference, truth_side = measure_case(case)
    shared = (time.perf_counter() - started) / len(SIDES)
    results = []
    for side in SIDES.values():
        started = time.perf_counter()
        verdict = run_side(case, side, reference, truth_side)
        seconds = shared + time.perf_counter() - started
        results.append(CaseResult(case.name, side.name, case.expect, verdict, seconds))
    return results


def overall(results: Sequence[CaseResult]) -> Outcome:
    """The gravest outcome that was not expected, if there is one; else the gravest of those that are no control's."""
    failed = [result.outcome for result in results if not result.ok]
    judged = [result.outcome for result in results if result.expected is Outcome.AGREE]
    return worst(failed or judged or [result.outcome for result in results])


def measure_case(case: Case) -> tuple[Reference, str]:
    """The reference of a case, and the name of the side that is its truth.

    That is torch.nn.LSTM in float64, except where torch refuses a row of length 0. e_ref is the larger error of
    torch.nn's two float32 paths on CPU, oneDNN's and its native one.
    """
    empty_row = isinstance(case, RecurrentCase) and case.lengths is not None and 0 in case.lengths
    truth_side = "torch_ref" if empty_row else "torch.nn.LSTM"
    truth, torch_nn = SIDES[truth_side].runner(case), SIDES["torch.nn.LSTM"].runner(case)
    paths: list[Callable[[Problem], Arrays]] = [
        partial(torch_nn, dtype="float32", onednn=onednn) for onednn in (True, False)
    ]
    reference = measure(case.problem, partial(truth, dtype="float64"), paths, seed=case.seed)
    return reference, truth_side


def run_side(case: Case, side: Side, reference: Reference, truth_side: str) -> Verdict:
    """Both lanes of one side. The truth is not compared with itself."""
    run = side.runner(case)
    findings: list[Finding] = []
    notes: tuple[str, ...] = ()
    for lane in LANES.values():
        if lane.name == "A" and side.name == truth_side:
            notes += (f"{side.name} in float64 is the truth of this case; lane A has nothing to judge",)
            continue
        own = lane.uses_own_error and side.name == "torch.nn.LSTM"
        findings += compare(case.problem, reference, run(case.problem, lane.dtype), lane, OWN_LIMIT if own else "")
    findings.sort(key=lambda f: list(reference.truth).index(f.quantity) if f.quantity in reference.truth else -1)
    return Verdict(tuple(findings), notes, likely_cause(findings, reference), environment())
