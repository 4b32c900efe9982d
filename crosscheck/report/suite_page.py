"""The standard suite as a page: the verdict, a table with a row a case, and every case in full behind a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crosscheck.core.finding import FLOAT32, FLOAT64, Outcome, worst
from crosscheck.core.verdict_text import MEANING
from crosscheck.report.page import Cell, Fold, Page, Section, Table, Words
from crosscheck.report.sections import gravity, outcome_cell, verdict_sections, worst_drawn
from crosscheck.report.table import OURS, closing_line, reach_of, worst_in
from crosscheck.suite.runs import CaseResult, overall

LIMITS = """\
Truth is the reference in float64. The float64 check runs an implementation in float64: \
an error over its limit means that the two compute different things. The float32 check runs it in float32: an error \
over its limit means that precision is lost.
‖port − truth‖ ≤ K · max(e_ref, κu, (√T/4)·u) · ‖truth‖ + K · tiny · √n
u is the rounding of the check's dtype. κu is how much the truth moves when every weight, input and cotangent is moved \
by one rounding, measured. e_ref is what the reference itself errs by, measured in float32 and scaled by 2^-29 in the \
float64 check. K is 64 in the float64 check and 8 in the float32 check. Errors and limits on this page are divided by ‖truth‖. Each quantity is judged \
as a whole and slice by slice, in the 2-norm and the max-norm: time steps of outputs and input gradients, gates i f g \
o of weight gradients.
Vacuous: there was nothing to compare. Inconclusive: the problem amplifies rounding past deciding. Neither is a \
success, unless another check settled it."""


def suite_page(
    results: Sequence[Sequence[CaseResult]], environment: Mapping[str, Any], command: str = "crosscheck"
) -> Page:
    """results: a list per case, a result per side. The case of the worst quantity stands open, and its curves in it."""
    done, _, verdict = closing_line(results).rpartition(": ")
    anchors = [f"case-{n}" for n in range(1, len(results) + 1)]
    sections: list[Section] = [_summary(results, anchors)]
    first = max(results, key=lambda case: max(map(_gravity, case)))
    sections += [_case(case, anchor, case is first) for case, anchor in zip(results, anchors, strict=True)]
    sections.append(Fold("How the limits are made", (Words("", LIMITS),)))
    flat = [result for case in results for result in case]
    return Page(
        title="Cross-check of " + ", ".join(dict.fromkeys(result.implementation for result in flat)),
        ok=all(result.ok for result in flat),
        verdict=verdict,
        summary=f"{_meaning(flat)}\n{done}",
        sections=tuple(sections),
        environment=environment,
        command=command,
    )


def _meaning(flat: Sequence[CaseResult]) -> str:
    failed = [
        f"  {result.name}, {result.implementation}: {_outcome([result]).text}" for result in flat if not result.ok
    ]
    outcome = overall(flat)
    if not failed:
        controls = all(result.expected is not Outcome.AGREE for result in flat)
        return "Controls only: each showed what it must show." if controls else MEANING[outcome]
    silent = "A control must not agree, and one did: what it is there to show was not seen."
    more = [f"  and {len(failed) - 6} more"] * (len(failed) > 6)
    return "\n".join((silent if outcome is Outcome.AGREE else MEANING[outcome], *failed[:6], *more))


def _summary(results: Sequence[Sequence[CaseResult]], anchors: Sequence[str]) -> Table:
    lanes = ("float64: error / limit", "worst quantity", "float32: error / limit", "worst quantity")
    columns = ("case", "verdict", *lanes, "time")
    rows: list[tuple[str | Cell, ...]] = []
    for case, anchor in zip(results, anchors, strict=True):
        seconds = sum(result.seconds for result in case)
        cells = [cell for check in (FLOAT64, FLOAT32) for cell in worst_in(case, check)]
        rows.append((Cell(case[0].name, to=anchor), _outcome(case), *cells, f"{seconds:.1f} s"))
    return Table("Cases", columns, tuple(rows), numeric=("time",))


def _outcome(case: Sequence[CaseResult]) -> Cell:
    """The gravest outcome that was not expected, if there is one; else the gravest."""
    surprising = [result for result in case if not result.ok]
    return outcome_cell(worst(result.outcome for result in surprising or case), case[0].expected)


def _drawn(result: CaseResult) -> bool:
    """Ours, and what is not as expected."""
    return result.implementation == OURS or not result.ok


def _gravity(result: CaseResult) -> tuple:
    """Orders results by what a reader looks for first: failures, controls last, and what has a drawing."""
    worst_one = worst_drawn(result.verdict.findings) if _drawn(result) else None
    return not result.ok, result.expected is Outcome.AGREE, gravity(worst_one)


def _case(case: Sequence[CaseResult], anchor: str, opened: bool) -> Fold:
    """All sides of a case, what is not as expected first; drawings of ours and of those."""
    sections: list[Section] = []
    first = max(case, key=_gravity)
    for result in sorted(case, key=lambda result: result.ok):
        sections += verdict_sections(result.verdict, result.implementation, _drawn(result), opened=result is first)
    reach = reach_of(case)
    if reach:
        sections.insert(0, Words("How far gradients reach", reach))
    sections.append(Words("Reproduce", case[0].reproduce, code=True))
    notes = tuple(f"{check.dtype}: {worst_in(case, check)[0]}" for check in (FLOAT64, FLOAT32))
    return Fold(case[0].name, tuple(sections), _outcome(case), notes, open=opened, anchor=anchor)
