"""The time of one step of the loop, and the memory of the whole program, by shape."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.result import TORCH, Result, Row
from benchmarks.session.schedule import CUDNN, SCAN
from benchmarks.table import NONE, duration, size
from crosscheck.report.table import Table

SHOWN = {"scan": SCAN, "cudnn": CUDNN, "torch": TORCH}
KEYS = ("precision", "T,B,D,H", "work")


def per_step_table(results: Iterable[Result]) -> Table:
    """Return a row per precision, shape and kind of work. A table with neither scan nor cudnn is left out.

    The time is the median of the whole call, divided by the number of steps. The memory is that of the table of
    results: for JAX what XLA's program allocates besides its arguments and results.
    """
    columns = (*KEYS, *(f"{name}, per step" for name in SHOWN), *(f"{name}, memory" for name in SHOWN))
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for timed in ([row for row in result.rows if row.seconds] for result in results):
        if {SCAN, CUDNN}.isdisjoint(row.implementation for row in timed):
            continue
        for row in timed:
            if row.implementation in SHOWN.values():
                found.setdefault((row.precision, str(row.shape), row.kind), {})[row.implementation] = row
    cells = tuple(
        (
            *key,
            *(_time(rows.get(name)) for name in SHOWN.values()),
            *(_memory(rows.get(name)) for name in SHOWN.values()),
        )
        for key, rows in found.items()
    )
    title = "One step of the loop, and the memory of the whole call"
    return Table(title, columns, cells, numeric=columns[len(KEYS) :], keys=len(KEYS))


def _time(row: Row | None) -> str:
    return NONE if row is None or row.median is None else duration(row.median / row.shape.steps)


def _memory(row: Row | None) -> str:
    return NONE if row is None or row.memory is None else size(row.memory)
