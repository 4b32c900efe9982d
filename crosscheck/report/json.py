"""Results as JSON: ``{"ok", "verdict", "cases": [...], "environment"}``; valid, and written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crosscheck.finding import Finding
from crosscheck.suite import CaseResult, overall
from jax_lstm.files import write_whole


def as_dict(results: Sequence[Sequence[CaseResult]], environment: dict[str, Any]) -> dict[str, Any]:
    flat = [result for case in results for result in case]
    return {
        "ok": all(result.ok for result in flat),
        "verdict": str(overall(flat)),
        "cases": [_case(result) for result in flat],
        "environment": environment,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all; a device or pipe is written to. OSError."""
    write_whole(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "side": result.side,
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
    """Slices are in it as counts and by the worst of them; all of them would be a number for every step."""
    content = asdict(replace(finding, rows=None))
    del content["check"]
    return {"quantity": finding.quantity, "lane": finding.lane} | content | {"ok": finding.ok}


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the strings "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
