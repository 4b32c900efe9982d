"""Judged cases as a page: the verdict, a table with one row per case, and every case in full behind a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crosscheck.core.finding import FLOAT32, FLOAT64, Outcome
from crosscheck.core.verdict_text import MEANING
from crosscheck.report.case_report import OURS, case_outcome, case_table, counts_text, reach_of, verdict_text, worst_in
from crosscheck.report.page import Fold, Page, Section, Words
from crosscheck.report.sections import gravity, verdict_sections, worst_drawn
from crosscheck.suite.runs import CaseResult, overall

LIMITS = """\
Truth is the reference in float64. The float64 check runs an implementation in float64: \
an error over its limit means that the two compute different things. The float32 check runs it in float32: an error \
over its limit means that precision is lost.
‖result − truth‖ ≤ K · max(e_ref, κu, (√T/4)·u) · ‖truth‖ + K · tiny · √n
u is the rounding of the check's dtype. κu is how far the truth moves if every weight, input and cotangent moves by \
one rounding. It is measured. e_ref is the reference's own error, measured in float32, and scaled by 2^-29 in the \
float64 check. K is 64 in the float64 check and 8 in the float32 check. Errors and limits on this page are divided by \
‖truth‖. Each quantity is judged as a whole and slice by slice, in the 2-norm and the max-norm: time steps of outputs \
and input gradients, gates i f g o of weight gradients.
Vacuous: there was nothing to compare. Inconclusive: the problem amplifies rounding past deciding. Neither is a \
success, unless another check settled it."""


def cases_page(
    results: Sequence[Sequence[CaseResult]], environment: Mapping[str, Any], command: str = "crosscheck"
) -> Page:
    """Return the page. The case of the worst quantity is open, and so are its curves.

    Args:
      results: one list per case, with one result per implementation.
      environment: names and values.
      command: the command line that gives these results again.
    """
    anchors = [f"case-{n}" for n in range(1, len(results) + 1)]
    first = max(results, key=lambda case: max(map(_gravity, case)))
    cases = (_case(case, anchor, case is first) for case, anchor in zip(results, anchors, strict=True))
    flat = [result for case in results for result in case]
    return Page(
        title="Cross-check of " + ", ".join(dict.fromkeys(result.implementation for result in flat)),
        ok=all(result.ok for result in flat),
        verdict=verdict_text(results),
        summary=f"{_meaning(flat)}\n{counts_text(results)}",
        sections=(
            case_table(results, "Cases", anchors),
            *cases,
            Fold("How the limits are made", (Words("", LIMITS),)),
        ),
        environment=environment,
        command=command,
    )


def _meaning(flat: Sequence[CaseResult]) -> str:
    failed = [
        f"  {result.name}, {result.implementation}: {case_outcome([result]).text}" for result in flat if not result.ok
    ]
    outcome = overall(flat)
    if not failed:
        controls = all(result.expected is not Outcome.AGREE for result in flat)
        return "Controls only: each showed what it must show." if controls else MEANING[outcome]
    silent = "A control must not agree, but one did. What it is there to show was not seen."
    more = [f"  and {len(failed) - 6} more"] * (len(failed) > 6)
    return "\n".join((silent if outcome is Outcome.AGREE else MEANING[outcome], *failed[:6], *more))


def _drawn(result: CaseResult) -> bool:
    """Return whether a result has drawings: it is jax_lstm's, or it is not as expected."""
    return result.implementation == OURS or not result.ok


def _gravity(result: CaseResult) -> tuple[bool, bool, tuple[int, bool, float]]:
    """Return a key that puts last what a reader looks for first: failures, then all but controls, then drawings."""
    worst_one = worst_drawn(result.verdict.findings) if _drawn(result) else None
    return not result.ok, result.expected is Outcome.AGREE, gravity(worst_one)


def _case(case: Sequence[CaseResult], anchor: str, opened: bool) -> Fold:
    """Return all implementations of a case. Results that are not as expected come first."""
    sections: list[Section] = []
    first = max(case, key=_gravity)
    for result in sorted(case, key=lambda result: result.ok):
        sections += verdict_sections(result.verdict, result.implementation, _drawn(result), opened=result is first)
    reach = reach_of(case)
    if reach:
        sections.insert(0, Words("How far gradients reach", reach))
    sections.append(Words("Reproduce", case[0].reproduce, code=True))
    notes = tuple(f"{check.dtype}: {worst_in(case, check)[0]}" for check in (FLOAT64, FLOAT32))
    return Fold(case[0].name, tuple(sections), case_outcome(case), notes, open=opened, anchor=anchor)
