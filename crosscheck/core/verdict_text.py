"""Verdicts in words: what happened, what it usually means, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosscheck.core.finding import Check, Finding, Kind, Outcome, Reason
from crosscheck.core.slices import TIME

MEANING = {
    Outcome.AGREE: "Every difference is explained by rounding, given the condition of this problem.",
    Outcome.VACUOUS: (
        "In some quantities there was nothing to check: the truth is zero, underflows, is NaN or is "
        "empty. This is no success. Choose inputs, cotangents or lengths for which these quantities hold other numbers."
    ),
    Outcome.INCONCLUSIVE: (
        "In some quantities a right and a wrong program cannot be told apart: rounding is amplified too much, a number "
        "overflows, or one lies exactly where a function has a jump or a kink. See the lines below. Use inputs and "
        "weights of a smaller size, or other ones, or fewer steps if there are some."
    ),
    Outcome.DISAGREE: "The two compute different things.",
}
STAND_INS = {Kind.TEACHER_FORCED: "teacher forcing", Kind.DAMPED: "a damped network"}
MOST = 6  # quantities that a verdict describes
MOST_NOT_SHOWN = 10  # lines about what the inputs do not show


def findings_text(
    outcome: Outcome,
    findings: Sequence[Finding],
    notes: Sequence[str],
    cause: str,
    diagnosis: Sequence[str] = (),
    not_shown: Sequence[str] = (),
) -> str:
    """Return the verdict in several lines. The first one holds the outcome."""
    quantities = len({finding.quantity for finding in findings})
    ran = {finding.check for finding in findings if finding.check.dtype}
    checks = sorted({check for check in ran if check.kind is Kind.DIRECT} or ran, key=str, reverse=True)
    where = " and ".join(map(str, checks))
    lines = [f"{outcome}: {quantities} quantities in {where or 'no precision check'}", _meaning(outcome, findings)]
    if outcome is Outcome.AGREE:
        agreeing = [[f for f in findings if f.check == check and f.ok] for check in checks]
        nearest = [max(group, key=lambda f: f.ratio) for group in agreeing if group]
        lines += [f"  nearest to its limit: {finding_text(finding)}" for finding in nearest]
    else:
        same = [finding for finding in findings if finding.final is outcome]
        shown = [next(f for f in same if f.quantity == name) for name in dict.fromkeys(f.quantity for f in same)]
        lines += [f"  {finding_text(finding)}" for finding in shown[:MOST]]
        if len(shown) > MOST:
            lines.append(f"  ... and {len(shown) - MOST} more quantities")
    lines += [f"  not decided by the {check_text(f.check)}: {finding_text(f)}" for f in _doubts(findings)]
    lines += [f"diagnosis: {line}" for line in diagnosis]
    if cause and not diagnosis:
        lines.append(f"likely cause: {cause}")
    lines += [f"note: {note}" for note in notes]
    lines += [f"not shown by these inputs: {line}" for line in not_shown[:MOST_NOT_SHOWN]]
    if len(not_shown) > MOST_NOT_SHOWN:
        lines.append(f"not shown by these inputs: {len(not_shown) - MOST_NOT_SHOWN} more, in Verdict.not_shown")
    return "\n".join(lines)


def _meaning(outcome: Outcome, findings: Sequence[Finding]) -> str:
    wrong = [f for f in findings if f.final is Outcome.DISAGREE]
    if wrong and all(f.reason is Reason.PRECISION for f in wrong):
        return "The two are the same function, and the port computes it less precisely."
    return MEANING[outcome]


def check_text(check: Check) -> str:
    """Return the name of a precision check with its noun."""
    return f"{check} check"


def _doubts(findings: Sequence[Finding]) -> list[Finding]:
    """Return, per check and outcome, the settled finding that had most slices in doubt."""
    doubts: dict[tuple[Check, Outcome], Finding] = {}
    for finding in (f for f in findings if f.settled_by):
        key = (finding.check, finding.verdict)
        if key not in doubts or _in_doubt(finding) > _in_doubt(doubts[key]):
            doubts[key] = finding
    return list(doubts.values())


def _in_doubt(finding: Finding) -> int:
    return finding.counts.get(str(finding.verdict), 0)


def finding_text(finding: Finding) -> str:
    """Return one line: quantity, error against limit, and on a disagreement where and what."""
    clauses = [f"{finding.label} [{finding.check}]"]
    if finding.error is not None and finding.limit is not None:
        norm = " in the max-norm" if finding.by == "max-norm" else ""
        clauses.append(f"error {finding.error:.1e}, limit {finding.limit:.1e}{norm}")
    if len(finding.counts) > 1:
        clauses.append("slices: " + ", ".join(f"{n} {name}" for name, n in finding.counts.items()))
    if finding.index is not None:
        place = f"largest at index {list(finding.index)}: " if finding.index else ""
        clauses.append(f"{place}got {finding.got:.9g}, expected {finding.expected:.9g}")
    if finding.first_step is not None:
        noun = finding.scope.noun if finding.scope.in_order else TIME.noun
        clauses.append(f"first {noun} that differs: {finding.first_step}")
    if finding.note:
        clauses.append(finding.note)
    if finding.settled_by:
        clauses.append(f"settled {settled_text(finding)}")
    return "; ".join(clauses)


def settled_text(finding: Finding) -> str:
    """Return what settled a finding, in words; "" if nothing did."""
    clauses = []
    for settled in finding.settled_by:
        count = f"{settled.slices} of {settled.of} " * (settled.of > 1)
        stand_ins = dict.fromkeys(STAND_INS[check.kind] for check in settled.by if check.stands_in)
        if stand_ins:
            clauses.append("by " + " and ".join(stand_ins))
        elif settled.by:
            clauses.append(f"{count}by " + " and ".join(f"the {check_text(check)}" for check in settled.by))
        else:
            clauses.append(f"{count}by float64, in which this implementation is the truth")
    return ", ".join(clauses)


def reach_text(findings: Sequence[Finding], truth: Finding) -> str:
    """Return how far back a gradient reaches: its norm at both ends, and the steps that are too small per check."""
    name, sizes = truth.quantity, truth.rows.size if truth.rows is not None else np.zeros(1)
    text = f"‖{name}‖ falls from {sizes[-1]:.2e} at the last step to {sizes[0]:.2e} at t=0"
    for finding in findings:
        if finding.quantity == name and finding.scope == TIME and finding.rows is not None:
            empty = finding.rows.count(Outcome.VACUOUS)
            where = f"; vacuous in the {check_text(finding.check)} at {empty} of {sizes.size} steps"
            text += where * bool(empty) + f" (settled {settled_text(finding)})" * bool(finding.settled_by)
    return text
