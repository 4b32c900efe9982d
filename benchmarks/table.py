"""The rows of a result as text: one table per kind of work."""

from __future__ import annotations

from benchmarks.comparison import Comparison
from benchmarks.result import Result, Row, compared
from benchmarks.shapes import Shape
from crosscheck.report.table import Table

COLUMNS = ("T,B,D,H", "implementation", "time", "to ours", "spread", "runs", "memory", "compile", "")
NONE = "-"


def tables(result: Result) -> list[Table]:
    """Return the tables. Only the first row of a shape names it. The last column says why a row has no time."""
    to_ours, shown = compared(result.rows), []
    for kind in dict.fromkeys(row.kind for row in result.rows):
        rows = [row for row in result.rows if row.kind == kind]
        shapes = [None, *(row.shape for row in rows)]
        cells = tuple(_cells(row, before, to_ours.get(row)) for row, before in zip(rows, shapes, strict=False))
        shown.append(Table(title_of(rows[0]), COLUMNS, cells, numeric=COLUMNS[2:-1], keys=2))
    return shown


def title_of(row: Row) -> str:
    """Return the table of all rows of this kind."""
    return ", ".join([row.kind, *[row.feature] * (row.feature != "plain"), row.precision])


def _cells(row: Row, before: Shape | None, to_ours: Comparison | None) -> tuple[str, ...]:
    shape = "" if row.shape == before else str(row.shape)
    if row.median is None or row.spread is None:
        return (shape, row.implementation, *[NONE] * 6, row.reason)
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
    unit, scale = ("s", 1.0) if seconds >= 0.9995 else ("ms", 1e-3) if seconds >= 0.9995e-3 else ("µs", 1e-6)
    return f"{three_digits(seconds / scale)} {unit}"


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
    return "\n".join([table.title, *("  ".join(line).rstrip() for line in aligned(table))])


def aligned(table: Table) -> list[list[str]]:
    """Return the names of the columns and the texts of each row, padded to the widths of the columns."""
    lines = [table.columns, *(tuple(cell.text for cell in row) for row in table.cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = [str.rjust if name in table.numeric else str.ljust for name in table.columns]
    return [[pad(text, width) for pad, text, width in zip(align, line, widths, strict=True)] for line in lines]
