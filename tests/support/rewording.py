"""What is said about a finding, said in other words: nothing may be decided by it."""

from __future__ import annotations

from crosscheck.core import criterion
from crosscheck.core.finding import Check


def reword(monkeypatch) -> None:
    """Other names for the checks and another note about a limit that cannot fail."""
    monkeypatch.setattr(Check, "__str__", lambda check: f"({check.steps}; {check.kind.name}; {check.dtype})")
    monkeypatch.setattr(criterion, "OWN_LIMIT", "another note")


def decided(verdict) -> tuple:
    """All of a verdict but its words."""
    findings = [(f.quantity, f.check, f.scope, f.verdict, f.final, f.reason, f.own_limit) for f in verdict.findings]
    return findings, verdict.outcome, verdict.cause, verdict.diagnosis
