"""A result in sentences: where ours is slower, where it is faster, and under which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.comparison import Comparison
from benchmarks.result import OURS, Base, Result, Row, base_rows, compared, implementations_in
from benchmarks.table import duration, units
from benchmarks.timing import LEAST_RUNS

SHOWN = ("date", "device", "processor", "cores", "jax threads", "torch threads", "precision", "jax", "torch")


def settings_line(result: Result) -> str:
    """Return the settings that decide most of a time. The JSON has all of them."""
    return ", ".join(f"{name} {result.settings[name]}" for name in SHOWN if name in result.settings)


def sentences(result: Result) -> list[str]:
    """Return what the comparison with each implementation shows, then what could not be timed in ours."""
    base = base_rows(result.rows)
    others = [row for row in result.rows if not row.ours and compared(row, base) is not None]
    lines = []
    for name in implementations_in(others):
        lines += against([row for row in others if row.implementation == name], base)
    if base and not others:
        lines.append(f"no implementation was timed beside {OURS}")
    lines += [
        f"{row.implementation} at {row.shape} {row.kind}: {row.reason}"
        for row in result.rows
        if row.ours and row.differs
    ]
    return lines


def against(rows: Sequence[Row], base: Base) -> list[str]:
    """Return where ours is slower than an implementation, where it is faster, and where no difference was measured.

    Args:
      rows: the rows of the implementation. All of their works are in ``base``.
      base: our own rows.

    Returns:
      One sentence for each of the three that occurs.
    """
    name, total = rows[0].implementation, len(rows)
    comparisons = {row: c for row in rows if (c := compared(row, base)) is not None}
    slower = {row: c.inverse for row, c in comparisons.items() if c.faster}
    faster = [c for c in comparisons.values() if c.slower]
    lines = []
    if slower:
        listed = ", ".join(f"{_place(row)} ({units(c)} times its time)" for row, c in slower.items())
        lines.append(f"{OURS} is slower than {name} in {len(slower)} of {total}: {listed}")
    if faster:
        lines.append(f"{OURS} is faster than {name} in {len(faster)} of {total}: {name} takes {_times(faster)}")
    return lines + _undecided(comparisons, base)


def _times(comparisons: Sequence[Comparison]) -> str:
    low, high = (units(end(comparisons, key=lambda c: c.ratio)) for end in (min, max))
    return f"{low} times as long" if low == high else f"{low} to {high} times as long"


def _undecided(comparisons: Mapping[Row, Comparison], base: Base) -> list[str]:
    """Return both times, and the range of their ratio if there are enough runs for a range."""
    name, total = next(iter(comparisons)).implementation, len(comparisons)
    lines = []
    if wide := {row: c for row, c in comparisons.items() if c.enough and not c.decided}:
        ranges = {row: f"a ratio of {c.inverse.low:.2f} to {c.inverse.high:.2f}" for row, c in wide.items()}
        listed = ", ".join(f"{_both(row, base)}, {ranges[row]})" for row in wide)
        lines.append(f"no difference between {OURS} and {name} was measured in {len(wide)} of {total}: {listed}")
    if few := [row for row, c in comparisons.items() if not c.enough]:
        listed = ", ".join(f"{_both(row, base)})" for row in few)
        lines.append(
            f"too few runs, under {LEAST_RUNS}, to compare {OURS} with {name} in {len(few)} of {total}: {listed}"
        )
    return lines


def _both(row: Row, base: Base) -> str:
    ours, its = base[row.work].median, row.median
    assert ours is not None
    assert its is not None
    return f"{_place(row)} ({duration(ours)} beside {duration(its)}"


def _place(row: Row) -> str:
    return f"{row.shape} {row.kind}"
