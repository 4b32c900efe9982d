"""What a comparison found: all findings of one side on one problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crosscheck.core.finding import Finding, Outcome, worst
from crosscheck.core.verdict_text import findings_text


@dataclass(frozen=True)
class Verdict:
    """All findings of one side on one problem. ``str()`` says them in words."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    cause: str = ""
    diagnosis: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        return worst(finding.final for finding in self.findings)

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.AGREE

    @property
    def first(self) -> Finding | None:
        """The first finding that is as grave as the verdict: outputs come before gradients, lane A before lane B."""
        return next((f for f in self.findings if f.final is self.outcome), None)

    def __str__(self) -> str:
        return findings_text(self.outcome, self.findings, self.notes, self.cause, self.diagnosis)
