"""Findings in other words. No decision may depend on the words."""

from __future__ import annotations

from typing import Any

import pytest

from crosscheck.core import comparison
from crosscheck.core.finding import Check
from crosscheck.core.verdict import Verdict


def reword(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rename the checks, and reword the note about a limit that cannot fail."""
    monkeypatch.setattr(Check, "__str__", lambda check: f"({check.steps}; {check.kind.name}; {check.dtype})")
    monkeypatch.setattr(comparison, "OWN_LIMIT", "another note")


def decided(verdict: Verdict) -> tuple[Any, ...]:
    """Return everything in a verdict except its words."""
    findings = [(f.quantity, f.check, f.scope, f.verdict, f.final, f.reason, f.own_limit) for f in verdict.findings]
    return findings, verdict.outcome, verdict.cause, verdict.diagnosis
