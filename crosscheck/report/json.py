"""Results as JSON: ``{"ok", "verdict", "cases": [...], "environment"}``; valid, and written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crosscheck.finding import Outcome, worst
from crosscheck.suite import CaseResult


def as_dict(results: Sequence[Sequence[CaseResult]], environment: dict[str, Any]) -> dict[str, Any]:
    flat = [result for case in results for result in case]
    failed = [result.outcome for result in flat if not result.ok]
    return {
        "ok": not failed,
        "verdict": str(worst(failed) if failed else Outcome.AGREE),
        "cases": [_case(result) for result in flat],
        "environment": environment,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes aside and renames, so that a reader never sees half a file. Raises OSError."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(_plain(content), file, indent=1, allow_nan=False)
            file.write("\n")
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "side": result.side,
        "ok": result.ok,
        "verdict": str(result.outcome),
        "expected": str(result.expected),
        "cause": result.verdict.cause,
        "notes": list(result.verdict.notes),
        "seconds": round(result.seconds, 3),
        "reproduce": result.reproduce,
        "findings": [asdict(finding) | {"ok": finding.ok} for finding in result.verdict.findings],
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the strings "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
