"""One piece of work, all implementations: made ready, checked against torch.nn.LSTM, and those that pass timed in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch

from benchmarks.agreement import limit, worst
from benchmarks.implementation import Implementation, Missing, Ready
from benchmarks.result import Row
from benchmarks.settings import measuring
from benchmarks.timing import Clock, interleave
from benchmarks.work import Arrays, Work, reference
from crosscheck.core.errors import first_line

Say = Callable[[str], None]


def measure(
    work: Work,
    implementations: Sequence[Implementation],
    *,
    most_runs: int,
    budget: float,
    say: Say,
    clock: Clock | None = None,
) -> list[Row]:
    """A row for each implementation, in their order. ``say`` hears what is being done."""
    rows: dict[str, Row] = {}
    started: dict[str, _Started] = {}
    with measuring("float32"):
        say("torch.nn.LSTM in float32, as the reference")
        expected = reference(work, "cuda" if torch.cuda.is_available() else "cpu")
    with measuring(work.precision):
        for implementation in implementations:
            say(implementation.name)
            rows[implementation.name], made = _checked(work, implementation, expected)
            if made is not None:
                started[implementation.name] = made
        say("in turn")
        calls = {name: made.ready.call for name, made in started.items()}
        seconds = {name: made.seconds for name, made in started.items()}
        for name, times in interleave(calls, seconds, most_runs=most_runs, budget=budget, clock=clock).items():
            if times.failed is None:
                rows[name] = replace(rows[name], seconds=tuple(times.seconds))
            else:
                rows[name] = replace(rows[name], reason=_first_line(times.failed))
    del calls
    started.clear()
    give_back()
    return list(rows.values())


class _Started(NamedTuple):
    """An implementation at the start line, and the seconds of its first call."""

    ready: Ready
    seconds: float


def _checked(work: Work, implementation: Implementation, expected: Arrays) -> tuple[Row, _Started | None]:
    """Its row, without times yet, and the implementation itself, or None where the row has the reason."""
    row = Row(
        implementation.name, work.shape, work.kind, work.feature, work.precision, _version(implementation.package)
    )
    try:
        ready = implementation.ready(work)
        before = time.perf_counter()
        returned = ready.call()
        seconds = time.perf_counter() - before
        quantity, error = worst(work, expected, ready.read(returned))
    except Missing as missing:
        return replace(row, reason=str(missing)), None
    except Exception as raised:  # whatever stops one implementation is its row, and the others go on
        give_back()
        return replace(row, reason=_first_line(raised)), None
    row = replace(row, error=error, quantity=quantity, compile_seconds=ready.compile_seconds, memory=ready.memory)
    if error > limit(work):
        why = f"{quantity} is off by {error:.1e} of its norm, and rounding explains {limit(work):.1e}"
        return replace(row, differs=True, reason=f"computes something else: {why}"), None
    return row, _Started(ready, seconds)


def give_back() -> None:
    """The memory of what is no longer needed, before the next one asks for it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
