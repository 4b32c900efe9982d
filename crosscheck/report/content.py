"""Judged cases and findings as what goes into a file of --json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from crosscheck.core.finding import Finding
from crosscheck.core.verdict_text import settled_text
from crosscheck.suite.runs import CaseResult, overall


def as_dict(results: Sequence[Sequence[CaseResult]], environment: dict[str, Any]) -> dict[str, Any]:
    """Return what the commands that judge cases have in common."""
    flat = [result for case in results for result in case]
    return {
        "ok": all(result.ok for result in flat),
        "verdict": str(overall(flat)),
        "cases": [_case(result) for result in flat],
        "environment": environment,
    }


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "implementation": result.implementation,
        "ok": result.ok,
        "verdict": str(result.outcome),
        "expected": str(result.expected),
        "cause": result.verdict.cause,
        "diagnosis": list(result.verdict.diagnosis),
        "notes": list(result.verdict.notes),
        "seconds": round(result.seconds, 3),
        "reproduce": result.reproduce,
        "findings": [finding_dict(finding) for finding in result.verdict.findings],
    }


def finding_dict(finding: Finding) -> dict[str, Any]:
    """Return a finding for JSON. It has the counts of slices and the worst one, not all of them."""
    content = asdict(replace(finding, rows=None))
    for name in ("quantity", "check", "scope", "settled_by", "rows"):
        del content[name]
    named = {"quantity": str(finding.quantity), "check": str(finding.check), "scope": str(finding.scope)}
    return named | content | {"settled": settled_text(finding), "ok": finding.ok}
