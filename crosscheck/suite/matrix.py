"""Every implementation on every case: the errors that the judge found, in units of their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crosscheck.core.finding import Check, Finding, Outcome, worst
from crosscheck.core.problem import is_gradient
from crosscheck.libraries import BACKENDS, OTHER_LIBRARIES, STANDARD
from crosscheck.lstm.cases import CASES, Case, RecurrentCase
from crosscheck.suite.runs import CaseResult, CaseResults

ALL = tuple(STANDARD | BACKENDS | OTHER_LIBRARIES)


def matrix_cases() -> dict[str, Case]:
    """Return the standard cases, and after lengths the same without an empty row.

    Many libraries that take lengths are wrong only on a row of length 0.
    """
    cases: dict[str, Case] = {}
    for name, case in CASES.items():
        cases[name] = case
        if name == "lengths" and isinstance(case, RecurrentCase):
            name, longer = "lengths-above-0", tuple(n or 5 for n in case.lengths or ())
            cases[name] = replace(case, name=name, description="the same without the row of length 0", lengths=longer)
    return cases


@dataclass(frozen=True)
class Entry:
    """The outputs, or the gradients, of one implementation in one precision check on one case.

    Attributes:
      outcome: the gravest outcome.
      ratio: the largest error in units of its limit; None if nothing was judged.
      own_limit: the limit is made of this implementation's own error, so that it cannot fail.
    """

    outcome: Outcome
    ratio: float | None
    own_limit: bool = False


def matrix_entry(result: CaseResult, check: Check, gradients: bool) -> Entry | None:
    """Return the entry of the outputs or of the gradients; None if the check judged none.

    The outcome includes what stands in for the check.
    """
    findings = [
        f for f in result.verdict.findings if f.check.dtype == check.dtype and is_gradient(f.quantity) == gradients
    ]
    if not findings:
        return None
    ratios = [f.ratio for f in findings if f.check == check and _has_ratio(f)]
    return Entry(worst(f.final for f in findings), max(ratios, default=None), any(f.own_limit for f in findings))


def _has_ratio(finding: Finding) -> bool:
    """Return whether the error says something: a slice was compared, and the outcome is decided."""
    decided = finding.verdict in (Outcome.AGREE, Outcome.DISAGREE)
    return decided and finding.error is not None and finding.limit is not None and finding.limit > 0


def unexpected(results: Sequence[CaseResults]) -> dict[str, list[CaseResult]]:
    """Return the results that are not as expected, by implementation."""
    bad: dict[str, list[CaseResult]] = {}
    for result in (result for case in results for result in case.judged):
        if not result.ok:
            bad.setdefault(result.implementation, []).append(result)
    return bad
