"""Verdicts in words: what happened, what it usually means, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from crosscheck.compare import LANES
from crosscheck.finding import Finding, Outcome

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


def findings_text(outcome: Outcome, findings: Sequence[Finding], notes: Sequence[str], cause: str) -> str:
    """Several lines; the first holds the verdict."""
    quantities = len({finding.quantity for finding in findings})
    lanes = sorted({finding.lane for finding in findings})
    where = " and ".join(f"{LANES[lane].dtype} (lane {lane})" for lane in lanes)
    lines = [f"{outcome}: {quantities} quantities in {where or 'no lane'}", MEANING[outcome]]
    if outcome is Outcome.AGREE:
        nearest = [max((f for f in findings if f.lane == lane), key=lambda f: f.ratio) for lane in lanes]
        lines += [f"  nearest to its limit: {finding_text(finding)}" for finding in nearest]
    else:
        same = [finding for finding in findings if finding.verdict is outcome]
        lines += [f"  {finding_text(finding)}" for finding in same[:6]]
        if len(same) > 6:
            lines.append(f"  ... and {len(same) - 6} more")
    if cause:
        lines.append(f"likely cause: {cause}")
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines)


def finding_text(finding: Finding) -> str:
    """One line: quantity, error against limit, and on a disagreement where and what."""
    parts = [f"{finding.quantity} [{finding.lane}]"]
    if finding.error is not None and finding.limit is not None:
        parts.append(f"error {finding.error:.1e}, limit {finding.limit:.1e}")
    if finding.index is not None:
        parts.append(f"largest at index {list(finding.index)}: got {finding.got:.9g}, expected {finding.expected:.9g}")
    if finding.first_step is not None:
        parts.append(f"first time step that differs: {finding.first_step}")
    if finding.note:
        parts.append(finding.note)
    return "; ".join(parts)
