"""A result in sentences: where ours is slower, where it is faster, and under which settings."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.comparison import Comparison
from benchmarks.result import OURS, Result, Row, base_rows, compared, implementations_in
from benchmarks.shapes import Shape
from benchmarks.table import duration, units
from benchmarks.timing import LEAST_RUNS

SHOWN = ("date", "device", "processor", "cores", "jax threads", "torch threads", "precision", "jax", "torch")


def settings_line(result: Result) -> str:
    """Return the settings that influence a time most. The JSON has all settings."""
    return ", ".join(f"{name} {result.settings[name]}" for name in SHOWN if name in result.settings)


def sentences(result: Result) -> list[str]:
    """Return what the comparison with each implementation shows, then what could not be timed in ours."""
    base = base_rows(result.rows)
    others = {row: c for row, c in compared(result.rows).items() if not row.ours}
    lines = []
    for name in implementations_in(others):
        lines += _against(name, {row: c for row, c in others.items() if row.implementation == name}, base)
    if base and not others:
        lines.append(f"no implementation was timed beside {OURS}")
    lines += [
        f"{row.implementation} at {row.shape} {row.kind}: {row.reason}"
        for row in result.rows
        if row.ours and row.differs
    ]
    return lines


def _against(name: str, comparisons: Mapping[Row, Comparison], base: Mapping[tuple[Shape, str], Row]) -> list[str]:
    """Return where ours is slower than an implementation, where it is faster, and where no difference was measured.

    Args:
      name: the implementation.
      comparisons: its rows, in units of ours.
      base: our own rows, by work.

    Returns:
      One sentence per case that occurs. The last case has two sentences if some rows have too few runs for a range.
    """

    def place(row: Row, more: str = "") -> str:
        times = f"{duration(base[row.work].quartiles[1])} beside {duration(row.quartiles[1])}"
        return f"{row.shape} {row.kind} ({times}{more})"

    total, lines = len(comparisons), []
    if slower := {row: c.inverse for row, c in comparisons.items() if c.faster}:
        listed = ", ".join(f"{row.shape} {row.kind} ({units(c)} times its time)" for row, c in slower.items())
        lines.append(f"{OURS} is slower than {name} in {len(slower)} of {total}: {listed}")
    if faster := sorted((c for c in comparisons.values() if c.slower), key=lambda c: c.ratio):
        low, high = units(faster[0]), units(faster[-1])
        times = low if low == high else f"{low} to {high}"
        lines.append(f"{OURS} is faster than {name} in {len(faster)} of {total}: {name} takes {times} times as long")
    if wide := {row: c.inverse for row, c in comparisons.items() if c.enough and not c.decided}:
        listed = ", ".join(place(row, f", a ratio of {c.low:.2f} to {c.high:.2f}") for row, c in wide.items())
        lines.append(f"no difference between {OURS} and {name} was measured in {len(wide)} of {total}: {listed}")
    if few := [place(row) for row, c in comparisons.items() if not c.enough]:
        lines.append(
            f"too few runs, under {LEAST_RUNS}, to compare {OURS} with {name} in {len(few)} of {total}: "
            f"{', '.join(few)}"
        )
    return lines
