"""The rows of a result as text, one table for each kind of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.comparison import Comparison
from benchmarks.result import Base, Result, Row, base_rows, compared
from benchmarks.shapes import Shape

COLUMNS = ("T,B,D,H", "implementation", "time", "to ours", "spread", "runs", "memory", "compile", "")
NUMERIC = frozenset(COLUMNS[2:-1])
NONE = "-"


@dataclass(frozen=True)
class TextTable:
    title: str
    rows: tuple[tuple[str, ...], ...]


def tables(result: Result) -> list[TextTable]:
    """A row an implementation; the shape stands at the first one of it. The last column has what keeps a row from a time."""
    base = base_rows(result.rows)
    found = []
    for kind in dict.fromkeys(row.kind for row in result.rows):
        rows = [row for row in result.rows if row.kind == kind]
        cells = tuple(_cells(row, before, base) for row, before in _with_previous(rows))
        found.append(TextTable(title_of(rows[0]), cells))
    return found


def title_of(row: Row) -> str:
    """What was measured, of all rows of its kind."""
    return ", ".join([row.kind, *[row.feature] * (row.feature != "plain"), row.precision])


def _with_previous(rows: Sequence[Row]) -> list[tuple[Row, Shape | None]]:
    return list(zip(rows, [None, *(row.shape for row in rows)], strict=False))


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
    """Three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * scale or unit == "µs":
            return f"{three_digits(seconds / scale)} {unit}"
    raise AssertionError("unreachable")


def three_digits(value: float) -> str:
    """Of a number over 1; larger ones have as many as they need."""
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def units(found: Comparison) -> str:
    """The ratio, with no more digits than the spread of its runs supports."""
    return f"{round(found.ratio, found.decimals):,.{max(found.decimals, 0)}f}"


def size(count: int) -> str:
    """Of bytes, in KiB or MiB; one digit below 10."""
    unit, value = ("KiB", count / 2**10) if count < 2**20 else ("MiB", count / 2**20)
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def as_text(table: TextTable) -> str:
    """Aligned columns, for where no terminal library is at hand."""
    lines = [COLUMNS, *table.rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
    cells = lambda line: (
        cell.rjust(width) if name in NUMERIC else cell.ljust(width)
        for name, cell, width in zip(COLUMNS, line, widths, strict=True)
    )
    return "\n".join([table.title, *("  ".join(cells(line)).rstrip() for line in lines)])
