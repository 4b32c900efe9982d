"""Where results are printed, and how they fit: tables fold by column, prose at words, redirected output not at all."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

ENDLESS = 1_000_000  # columns of a file or pipe: nothing is as long
INDENT = "  "


def output() -> Console:
    """Return stdout, for tables and verdicts: as wide as the terminal, or endless if it is none."""
    return Console() if sys.stdout.isatty() else Console(width=ENDLESS)


def new_table(columns: Sequence[str], numeric: Collection[str] = ()) -> Table:
    """Return a table without lines. ``numeric``: those of the columns that stand on the right.

    A column without a name holds words, which may wrap if they do not fit.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=bool(name), justify="right" if name in numeric else "left")
    return table


def say(console: Console, text: str, style: str = "") -> None:
    """Print lines of prose. One that is too long wraps at a word, and goes on below its first word."""
    for line in text.splitlines() or [""]:
        indent = line[: len(line) - len(line.lstrip())]
        wrapped = textwrap.wrap(
            line,
            console.width,
            subsequent_indent=indent + INDENT if indent else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part in wrapped or [""]:
            console.print(Text(part, style), soft_wrap=True)


def show(console: Console, table: Table, title: str = "", keys: int = 1) -> None:
    """Print a table and an empty line.

    One that is too wide is printed as several, one below the other, each with the first ``keys`` columns. If fewer than
    two more columns fit beside those, each row is a block of lines.
    """
    if title:
        say(console, title, "italic")
    table = _part(table, [n for n, column in enumerate(table.columns) if column.header or any(map(str, column.cells))])
    pieces = _folded(console, table, keys)
    if pieces is None:
        _show_blocks(console, table, keys)
        return
    for piece in pieces:
        console.print(piece)
        console.print()


def _folded(console: Console, table: Table, keys: int) -> list[Table] | None:
    """Return tables that fit, or None if some would have a single column beside the keys."""
    if _widths(console, table).maximum <= console.width or len(table.columns) <= keys:
        return [table]
    first = list(range(keys))
    groups: list[list[int]] = []
    for n in range(keys, len(table.columns)):
        if groups and _widths(console, _part(table, [*first, *groups[-1], n])).maximum <= console.width:
            groups[-1].append(n)
        elif _widths(console, _part(table, [*first, n])).minimum <= console.width:
            groups.append([n])
        else:
            return None
    if any(len(group) == 1 for group in groups[:-1]):
        return None
    return [_part(table, [*first, *group]) for group in groups]


def _widths(console: Console, table: Table) -> Measurement:
    return Measurement.get(console, console.options.update(width=ENDLESS), table)


def _part(table: Table, columns: Sequence[int]) -> Table:
    part = Table(box=None, pad_edge=False, header_style="bold")
    chosen = [table.columns[n] for n in columns]
    for column in chosen:
        part.add_column(column.header, no_wrap=column.no_wrap, justify=column.justify)
    for row in zip(*(column.cells for column in chosen), strict=True):
        part.add_row(*row)
    return part


def _show_blocks(console: Console, table: Table, keys: int) -> None:
    """A row is its keys on a line and each of its other cells, with the column's name, on one of its own."""
    names = [" ".join(str(column.header).split()) for column in table.columns]
    label = [""] * keys
    for row in zip(*(column.cells for column in table.columns), strict=True):
        cells = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in row]
        label = [cell.plain or before for cell, before in zip(cells, label, strict=False)]  # an empty one: as above
        say(console, "  ".join(label), "bold")
        for name, cell in _filled(names[keys:], cells[keys:]):
            say(console, INDENT + (f"{name}  {cell.plain}" if name else cell.plain), str(cell.style))
        console.print()


def _filled(names: Sequence[str], cells: Sequence[Text]) -> Iterator[tuple[str, Text]]:
    return ((name, cell) for name, cell in zip(names, cells, strict=True) if cell.plain)
