"""Every side against the truth on every case: what the judge found of each, as errors in units of their limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crosscheck.core.finding import Check, Finding, Outcome, worst
from crosscheck.core.problem import Quantity, is_gradient
from crosscheck.libraries import OTHER_LIBRARIES, STANDARD
from crosscheck.lstm.cases import CASES, Case, RecurrentCase
from crosscheck.suite.runs import CaseResult, CaseResults

ALL = tuple(STANDARD | OTHER_LIBRARIES)


def _without_empty_row() -> RecurrentCase:
    """Many libraries that take lengths are wrong on a row of length 0 alone."""
    lengths = CASES["lengths"]
    assert isinstance(lengths, RecurrentCase)
    assert lengths.lengths is not None
    longer = tuple(n or 5 for n in lengths.lengths)
    return replace(lengths, name="lengths-above-0", description="the same without the row of length 0", lengths=longer)


def matrix_cases() -> dict[str, Case]:
    """The standard cases, and lengths without an empty row."""
    extra = _without_empty_row()
    cases: dict[str, Case] = {}
    for name, case in CASES.items():
        cases[name] = case
        if name == "lengths":
            cases[extra.name] = extra
    return cases


@dataclass(frozen=True)
class Part:
    """The outputs, or the gradients, of a side in one lane on one case.

    ratio: the largest error in units of its limit; None where nothing was judged. own: the limit is made of this side's
    own error, so that it cannot fail.
    """

    outcome: Outcome
    ratio: float | None
    own: bool = False


def is_output(quantity: Quantity) -> bool:
    return not is_gradient(quantity)


def part(result: CaseResult, check: Check, of: Callable[[Quantity], bool]) -> Part | None:
    """What was found in a lane, and in what stands in for it, of the quantities that ``of`` picks; None if nothing."""
    mine = [f for f in result.verdict.findings if f.check.dtype == check.dtype and of(f.quantity)]
    if not mine:
        return None
    ratios = [f.ratio for f in mine if f.check == check and _has_ratio(f)]
    return Part(worst(f.final for f in mine), max(ratios, default=None), any(f.own_limit for f in mine))


def _has_ratio(finding: Finding) -> bool:
    """Slices in which there is nothing to compare, or nothing is decided, have an error that says nothing."""
    decided = finding.verdict in (Outcome.AGREE, Outcome.DISAGREE)
    return decided and finding.error is not None and finding.limit is not None and finding.limit > 0


def disagreements(found: Sequence[CaseResults]) -> dict[str, list[CaseResult]]:
    """By side, the results that are not as expected."""
    bad: dict[str, list[CaseResult]] = {}
    for result in (result for case in found for result in case.judged):
        if not result.ok:
            bad.setdefault(result.implementation, []).append(result)
    return bad
