"""Shrinking: the smallest steps, batch, sizes and layers on which an implementation still fails, as lines of Python.

The search is greedy. It makes one thing smaller, or leaves it out, as long as the case still fails. The largest change
is tried first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from crosscheck.core.finding import Outcome
from crosscheck.libraries import Implementation, NotSupported
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.suite.measured_case import check_implementation, measure_case

SIZES = ("num_layers", "steps", "batch", "hidden_size", "input_size")
TRIES = 200


def shrink(case: RecurrentCase, implementation: Implementation) -> RecurrentCase:
    """Return the smallest case found on which an implementation disagrees.

    Args:
      case: a case on which it disagrees.
      implementation: the implementation.
    """
    candidates = _simpler(case)
    for _ in range(TRIES):
        candidate = next(candidates, None)
        if candidate is None:
            break
        if _fails(candidate, implementation):
            case, candidates = candidate, _simpler(candidate)
    return case


def _simpler(case: RecurrentCase) -> Iterator[RecurrentCase]:
    """Yield cases with one change, the largest first."""
    simplest = {"bidirectional": False, "lengths": None, "proj_size": 0, "time_major": False}
    for name, value in simplest.items():
        if getattr(case, name) != value:
            yield _changed(case, **{name: value})
    for size in SIZES:
        now = getattr(case, size)
        for value in sorted({1, now // 4, now // 2, now - 1} if now else ()):
            if 1 <= value < now and (size != "hidden_size" or value > case.proj_size):
                yield _changed(case, **{size: value})


def _changed(case: RecurrentCase, **change: Any) -> RecurrentCase:
    lengths = change.get("lengths", case.lengths)
    if lengths is not None:
        steps, batch = change.get("steps", case.steps), change.get("batch", case.batch)
        change["lengths"] = tuple(max(n * steps // case.steps, min(n, 1)) for n in lengths[:batch])
    return replace(case, name="shrunk", **change)


def _fails(case: RecurrentCase, implementation: Implementation) -> bool:
    try:
        findings = check_implementation(measure_case(case), implementation)
    except NotSupported:
        return False
    return any(f.final is Outcome.DISAGREE for f in findings)


def reproduction(case: RecurrentCase, implementation: str) -> str:
    """Return lines of Python that give the verdict again."""
    given = {f.name: getattr(case, f.name) for f in fields(case) if f.name not in ("name", "description", "weights")}
    defaults = {f.name: f.default for f in fields(case)}
    options = ", ".join(f"{n}={_literal(v)}" for n, v in given.items() if v != defaults[n] or n == "batch")
    return "\n".join(
        (
            "from crosscheck.libraries import implementations_named",
            "from crosscheck.lstm.cases import RecurrentCase",
            "from crosscheck.suite.measured_case import assess_implementation, measure_case",
            f'case = RecurrentCase("shrunk", "", {options})',
            f'print(assess_implementation(measure_case(case), *implementations_named(["{implementation}"])))',
        )
    )


def _literal(value: object) -> str:
    """Return a value as Python. An enum becomes a string."""
    return repr(str(value)) if isinstance(value, str) else repr(value)
