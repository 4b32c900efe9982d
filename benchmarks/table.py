"""The rows of a result as text: one table per kind of work."""

from __future__ import annotations

from benchmarks.comparison import Comparison
from benchmarks.result import Base, Result, Row, base_rows, compared
from benchmarks.shapes import Shape
from crosscheck.report.table import Table

COLUMNS = ("T,B,D,H", "implementation", "time", "to ours", "spread", "runs", "memory", "compile", "")
NONE = "-"


def tables(result: Result) -> list[Table]:
    """Return the tables. The shape stands in the first of its rows. The last column says why a row has no time."""
    base = base_rows(result.rows)
    shown = []
    for kind in dict.fromkeys(row.kind for row in result.rows):
        rows = [row for row in result.rows if row.kind == kind]
        shapes = [None, *(row.shape for row in rows)]
        cells = tuple(_cells(row, before, base) for row, before in zip(rows, shapes, strict=False))
        shown.append(Table(title_of(rows[0]), COLUMNS, cells, numeric=COLUMNS[2:-1], keys=2))
    return shown


def title_of(row: Row) -> str:
    """Return what was measured in all rows of this kind."""
    return ", ".join([row.kind, *[row.feature] * (row.feature != "plain"), row.precision])


def _cells(row: Row, before: Shape | None, base: Base) -> tuple[str, ...]:
    shape = "" if row.shape == before else str(row.shape)
    if row.median is None or row.spread is None:
        return (shape, row.implementation, *[NONE] * 6, row.reason)
    to_ours = compared(row, base)
    return (
        shape,
        row.implementation,
        duration(row.median),
        NONE if to_ours is None else units(to_ours),
        f"{row.spread:.0%}",
        str(len(row.seconds)),
        NONE if row.memory is None else size(row.memory),
        NONE if row.compile_seconds is None else duration(row.compile_seconds),
        row.reason,
    )


def duration(seconds: float) -> str:
    """Return a time with three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * scale or unit == "µs":
            return f"{three_digits(seconds / scale)} {unit}"
    raise AssertionError("unreachable")


def three_digits(value: float) -> str:
    """Return a number over 1 with three digits, or with more if it is 1,000 or larger."""
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def units(comparison: Comparison) -> str:
    """Return the ratio, with no more digits than the spread of its runs supports."""
    decimals = comparison.decimals
    return f"{round(comparison.ratio, decimals):,.{max(decimals, 0)}f}"


def size(count: int) -> str:
    """Return a number of bytes in KiB or MiB, with one decimal below 10."""
    unit, value = ("KiB", count / 2**10) if count < 2**20 else ("MiB", count / 2**20)
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def as_text(table: Table) -> str:
    """Return aligned columns, for a machine without a terminal library."""
    lines = [table.columns, *(tuple(cell.text for cell in row) for row in table.cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = [str.rjust if name in table.numeric else str.ljust for name in table.columns]
    cells = lambda line: (pad(text, width) for pad, text, width in zip(align, line, widths, strict=True))
    return "\n".join([table.title, *("  ".join(cells(line)).rstrip() for line in lines)])
