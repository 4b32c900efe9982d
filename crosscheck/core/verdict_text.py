"""Verdicts in words: what happened, what it usually means, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosscheck.core.finding import Finding, Kind, Outcome
from crosscheck.core.slices import STEPS

MEANING = {
    Outcome.AGREE: "Every difference is explained by rounding, given the condition of this problem.",
    Outcome.VACUOUS: (
        "In some quantities there was nothing to check: the truth is zero or underflows. This is no success. "
        "Choose inputs, cotangents or lengths for which these quantities are not zero."
    ),
    Outcome.INCONCLUSIVE: (
        "The problem amplifies rounding so much that a right and a wrong program cannot be told apart. "
        "Use fewer steps or smaller recurrent weights."
    ),
    Outcome.DISAGREE: "The two compute different things.",
}


def findings_text(
    outcome: Outcome, findings: Sequence[Finding], notes: Sequence[str], cause: str, diagnosis: Sequence[str] = ()
) -> str:
    """Several lines; the first holds the verdict."""
    quantities = len({finding.quantity for finding in findings})
    ran = {finding.check for finding in findings if finding.check.dtype}
    checks = sorted({check for check in ran if check.kind is Kind.DIRECT} or ran, key=str)
    where = " and ".join(f"{check.dtype} (lane {check})" for check in checks)
    lines = [f"{outcome}: {quantities} quantities in {where or 'no lane'}", MEANING[outcome]]
    if outcome is Outcome.AGREE:
        sure = [[f for f in findings if f.check == check and f.ok] for check in checks]
        nearest = [max(found, key=lambda f: f.ratio) for found in sure if found]
        lines += [f"  nearest to its limit: {finding_text(finding)}" for finding in nearest]
    else:
        same = [finding for finding in findings if finding.final is outcome]
        shown = [next(f for f in same if f.quantity == name) for name in dict.fromkeys(f.quantity for f in same)]
        lines += [f"  {finding_text(finding)}" for finding in shown[:6]]
        if len(shown) > 6:
            lines.append(f"  ... and {len(shown) - 6} more quantities")
    lines += [f"  not decided by lane {f.lane}: {finding_text(f)}" for f in _doubts(findings)]
    lines += [f"diagnosis: {line}" for line in diagnosis]
    if cause and not diagnosis:
        lines.append(f"likely cause: {cause}")
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines)


def _doubts(findings: Sequence[Finding]) -> list[Finding]:
    """Of what other lanes have settled, one finding a lane and outcome: the one with most slices in doubt."""
    doubts: dict[tuple, Finding] = {}
    for finding in (f for f in findings if f.settled):
        key = (finding.check, finding.verdict)
        if key not in doubts or _in_doubt(finding) > _in_doubt(doubts[key]):
            doubts[key] = finding
    return list(doubts.values())


def _in_doubt(finding: Finding) -> int:
    return finding.counts.get(str(finding.verdict), 0)


def finding_text(finding: Finding) -> str:
    """One line: quantity, error against limit, and on a disagreement where and what."""
    parts = [f"{finding.label} [{finding.lane}]"]
    if finding.error is not None and finding.limit is not None:
        norm = " in the max-norm" if finding.by == "max-norm" else ""
        parts.append(f"error {finding.error:.1e}, limit {finding.limit:.1e}{norm}")
    if len(finding.counts) > 1:
        parts.append("slices: " + ", ".join(f"{n} {name}" for name, n in finding.counts.items()))
    if finding.index is not None:
        parts.append(f"largest at index {list(finding.index)}: got {finding.got:.9g}, expected {finding.expected:.9g}")
    if finding.first_step is not None:
        parts.append(f"first {STEPS.get(finding.part, 'time step')} that differs: {finding.first_step}")
    if finding.note:
        parts.append(finding.note)
    if finding.settled:
        parts.append(f"settled {finding.settled}")
    return "; ".join(parts)


def reach_text(findings: Sequence[Finding], truth: Finding) -> str:
    """How far back a gradient reaches: its norm at both ends, and the steps that are too small for each lane."""
    name, sizes = truth.quantity, truth.rows.size if truth.rows is not None else np.zeros(1)
    text = f"‖{name}‖ falls from {sizes[-1]:.2e} at the last step to {sizes[0]:.2e} at t=0"
    for finding in findings:
        if finding.quantity == name and finding.part == "t" and finding.rows is not None:
            empty = finding.rows.count(Outcome.VACUOUS)
            where = f"; vacuous in lane {finding.lane} at {empty} of {sizes.size} steps"
            text += where * bool(empty) + f" (settled {finding.settled})" * bool(finding.settled)
    return text
