"""A result in words: where ours is slower, losses said like wins, and under which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.comparison import Comparison
from benchmarks.result import OURS, Base, Result, Row, base_rows, compared, implementations_in
from benchmarks.table import duration, units
from benchmarks.timing import LEAST_RUNS

SHOWN = ("date", "device", "processor", "cores", "jax threads", "torch threads", "precision", "jax", "torch")


def settings_line(result: Result) -> str:
    """The settings that most decide a time; the JSON has all of them."""
    return ", ".join(f"{name} {result.settings[name]}" for name in SHOWN if name in result.settings)


def sentences(result: Result) -> list[str]:
    """Return what each implementation beside ours shows, then what could not be timed in ours."""
    base = base_rows(result.rows)
    others = [row for row in result.rows if not row.ours and compared(row, base) is not None]
    found = []
    for name in implementations_in(others):
        found += against([row for row in others if row.implementation == name], base)
    if base and not others:
        found.append(f"no implementation was timed beside {OURS}")
    found += [
        f"{row.implementation} at {row.shape} {row.kind}: {row.reason}"
        for row in result.rows
        if row.ours and row.differs
    ]
    return found


def against(rows: Sequence[Row], base: Base) -> list[str]:
    """Say where ours is slower than this implementation, where it is faster, and where no difference was measured.

    Args:
        rows: Those of one implementation, all in ``base``'s works.
        base: Our own rows.

    Returns:
        A sentence for each of these that occurs.
    """
    name, total = rows[0].implementation, len(rows)
    found = {row: comparison for row in rows if (comparison := compared(row, base)) is not None}
    slower = {row: c.inverse for row, c in found.items() if c.faster}
    faster = [c for c in found.values() if c.slower]
    said = []
    if slower:
        listed = ", ".join(f"{_place(row)} ({units(c)} times its time)" for row, c in slower.items())
        said.append(f"{OURS} is slower than {name} in {len(slower)} of {total}: {listed}")
    if faster:
        said.append(f"{OURS} is faster than {name} in {len(faster)} of {total}: {name} takes {_times(faster)}")
    return said + _undecided(found, base)


def _times(found: Sequence[Comparison]) -> str:
    low, high = (units(end(found, key=lambda c: c.ratio)) for end in (min, max))
    return f"{low} times as long" if low == high else f"{low} to {high} times as long"


def _undecided(found: Mapping[Row, Comparison], base: Base) -> list[str]:
    """Both times and the range of their ratio; where there are too few runs for a range, the times."""
    name, total = next(iter(found)).implementation, len(found)
    said = []
    if wide := {row: c for row, c in found.items() if c.enough and not c.decided}:
        ranges = {row: f"a ratio of {c.inverse.low:.2f} to {c.inverse.high:.2f}" for row, c in wide.items()}
        listed = ", ".join(f"{_both(row, base)}, {ranges[row]})" for row in wide)
        said.append(f"no difference between {OURS} and {name} was measured in {len(wide)} of {total}: {listed}")
    if few := [row for row, c in found.items() if not c.enough]:
        listed = ", ".join(f"{_both(row, base)})" for row in few)
        said.append(
            f"too few runs, under {LEAST_RUNS}, to compare {OURS} with {name} in {len(few)} of {total}: {listed}"
        )
    return said


def _both(row: Row, base: Base) -> str:
    ours, its = base[row.work].median, row.median
    assert ours is not None
    assert its is not None
    return f"{_place(row)} ({duration(ours)} beside {duration(its)}"


def _place(row: Row) -> str:
    return f"{row.shape} {row.kind}"
