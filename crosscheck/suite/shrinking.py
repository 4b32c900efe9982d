"""Shrinking: the smallest steps, batch, sizes and layers for which a implementation still fails, as a few lines of Python.

Greedy: one thing is made smaller or left out at a time, the boldest first, as long as the case still fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from crosscheck.core.finding import Outcome
from crosscheck.libraries import Implementation, NotSupported
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.suite.measured_case import check_implementation, measure_case

SIZES = ("num_layers", "steps", "batch", "hidden_size", "input_size")
TRIES = 200


def shrink(
    case: RecurrentCase, implementation: Implementation, tried: Callable[[RecurrentCase], None] = lambda case: None
) -> RecurrentCase:
    """The smallest case found on which ``implementation`` disagrees, as ``case`` does. ``tried`` is told of every one."""
    left = TRIES
    smaller = True
    while smaller and left > 0:
        smaller = False
        for candidate in _simpler(case):
            left -= 1
            tried(candidate)
            if _fails(candidate, implementation):
                case, smaller = candidate, True
                break
            if left <= 0:
                break
    return case


def _simpler(case: RecurrentCase) -> Iterator[RecurrentCase]:
    """Cases with one thing less, the boldest first."""
    for change in ({"bidirectional": False}, {"lengths": None}, {"proj_size": 0}, {"time_major": False}):
        if any(getattr(case, name) != value for name, value in change.items()):
            yield _named(case, **change)
    for size in SIZES:
        now = getattr(case, size)
        for value in sorted({1, now // 4, now // 2, now - 1} if now else ()):
            if 1 <= value < now and (size != "hidden_size" or value > case.proj_size):
                yield _named(case, **{size: value})


def _named(case: RecurrentCase, **change) -> RecurrentCase:
    lengths = change.get("lengths", case.lengths)
    if lengths is not None:
        steps, batch = change.get("steps", case.steps), change.get("batch", case.batch)
        lengths = tuple(max(n * steps // case.steps, min(n, 1)) for n in lengths[:batch])
        change["lengths"] = lengths
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
    options = ", ".join(f"{n}={_shown(v)}" for n, v in given.items() if v != defaults[n] or n == "batch")
    return "\n".join(
        (
            "from crosscheck.libraries import implementations_named",
            "from crosscheck.lstm.cases import RecurrentCase",
            "from crosscheck.suite.measured_case import assess_implementation, measure_case",
            f'case = RecurrentCase("shrunk", "", {options})',
            f'print(assess_implementation(measure_case(case), *implementations_named(["{implementation}"])))',
        )
    )


def _shown(value) -> str:
    return repr(str(value)) if isinstance(value, str) else repr(value)
