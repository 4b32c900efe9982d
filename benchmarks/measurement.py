"""Measures one piece of work: makes all implementations ready, checks them, and times in turn those that pass."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.agreement import limit, worst
from benchmarks.implementation import TimedImplementation
from benchmarks.result import Row
from benchmarks.settings import measuring
from benchmarks.timing import Clock, interleave
from benchmarks.work import Work, reference
from crosscheck.core.errors import first_line
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.missing import installed_version
from crosscheck.core.problem import Results

Say = Callable[[str], None]
Call = Callable[[], Any]


def measure(
    work: Work,
    implementations: Sequence[TimedImplementation],
    *,
    most_runs: int,
    budget: float,
    say: Say,
    clock: Clock | None = None,
) -> list[Row]:
    """Return a row per implementation, in their order.

    Args:
      work: the work.
      implementations: what is timed.
      most_runs: the largest number of timed runs of each.
      budget: seconds for all runs together.
      say: gets a line of text about the progress.
      clock: the system's clock if None.
    """
    rows: dict[str, Row] = {}
    calls: dict[str, Call] = {}
    seconds: dict[str, float] = {}  # of the first call
    doing = lambda what: say(f"{work.shape} {work.kind}: {what}")
    with measuring("float32"):
        doing("torch.nn.LSTM in float32, as the reference")
        expected = reference(work, "cuda" if torch.cuda.is_available() else "cpu")
    with measuring(work.precision):
        for implementation in implementations:
            name = implementation.name
            doing(name)
            rows[name], passed = _check(work, implementation, expected)
            if passed is not None:
                calls[name], seconds[name] = passed
        doing("in turn")
        for name, times in interleave(calls, seconds, most_runs=most_runs, budget=budget, clock=clock).items():
            if times.failed is None:
                rows[name] = replace(rows[name], seconds=tuple(times.seconds))
            else:
                rows[name] = replace(rows[name], reason=error_line(times.failed))
    calls.clear()
    release_memory()
    return list(rows.values())


def _check(work: Work, implementation: TimedImplementation, expected: Results) -> tuple[Row, tuple[Call, float] | None]:
    """Return the row without times, and the implementation to time with the seconds of its first call.

    The latter is None if it cannot be timed. Then the row has the reason.
    """
    version = installed_version(implementation.package)
    row = Row(implementation.name, work.shape, work.kind, work.feature, work.precision, version)
    try:
        ready = implementation.ready(work)
        before = time.perf_counter()
        returned = ready.call()
        seconds = time.perf_counter() - before
        quantity, error = worst(work, expected, ready.read(returned))
    except CouldNotRun as refused:
        return replace(row, reason=str(refused)), None
    except Exception as raised:  # any failure of one implementation goes into its row, and the others run
        release_memory()
        return replace(row, reason=error_line(raised)), None
    row = replace(row, error=error, quantity=str(quantity), compile_seconds=ready.compile_seconds, memory=ready.memory)
    if error > limit(work):
        why = f"{quantity} is off by {error:.1e} of its norm, and rounding explains {limit(work):.1e}"
        return replace(row, differs=True, reason=f"computes something else: {why}"), None
    return row, (ready.call, seconds)


def release_memory() -> None:
    """Free what is no longer used, before the next implementation needs memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def error_line(error: Exception) -> str:
    """Return an error in one line: its type and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
