"""The output of a command. A wide table folds by column, and prose wraps at words; redirected output does neither."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from crosscheck.report.table import Table, Tone

ENDLESS = 1_000_000  # columns of a file or a pipe: more than any line has
INDENT = "  "
STYLES: dict[Tone, str] = {"": "", "good": "green", "doubt": "yellow", "bad": "red"}


def output() -> Console:
    """Return stdout as a console: as wide as the terminal, or without a limit if it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=ENDLESS)


def say(console: Console, text: str, style: str = "") -> None:
    """Print lines of prose. A line that is too long wraps at a word, and goes on below its first word."""
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


def say_settings(console: Console, settings: Mapping[str, Any]) -> None:
    """Print the environment of a run, and an empty line."""
    say(console, ", ".join(f"{name} {value}" for name, value in settings.items()) + "\n\n")


def show(console: Console, table: Table) -> None:
    """Print a table and an empty line.

    A table that is too wide is printed as several, one below the other, each with the key columns. If fewer than two
    more columns fit beside the keys, each row is a block of lines. A column without a name and without texts is left
    out.
    """
    if table.title:
        say(console, table.title, "italic")
    filled = [n for n, name in enumerate(table.columns) if name or any(row[n].text for row in table.cells)]
    pieces = _fold(console, table, filled)
    if pieces is None:
        _show_blocks(console, table, filled)
        return
    for columns in pieces:
        console.print(_as_rich(table, columns))
        console.print()


def _fold(console: Console, table: Table, columns: Sequence[int]) -> list[list[int]] | None:
    """Return the columns of each piece that fits. None if a piece would have a single column beside the keys."""

    def widths(chosen: Sequence[int]) -> Measurement:
        return Measurement.get(console, console.options.update(width=ENDLESS), _as_rich(table, chosen))

    if widths(columns).maximum <= console.width or len(columns) <= table.keys:
        return [list(columns)]
    keys = list(columns[: table.keys])
    groups: list[list[int]] = []
    for n in columns[table.keys :]:
        if groups and widths([*keys, *groups[-1], n]).maximum <= console.width:
            groups[-1].append(n)
        elif widths([*keys, n]).minimum <= console.width:
            groups.append([n])
        else:
            return None
    if any(len(group) == 1 for group in groups[:-1]):
        return None
    return [[*keys, *group] for group in groups]


def _as_rich(table: Table, columns: Sequence[int]) -> RichTable:
    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for n in columns:
        name = table.columns[n]
        shown.add_column(Text(name), no_wrap=bool(name), justify="right" if name in table.numeric else "left")
    for row in table.cells:
        shown.add_row(*(Text(row[n].text, STYLES[row[n].tone]) for n in columns))
    return shown


def _show_blocks(console: Console, table: Table, columns: Sequence[int]) -> None:
    """Print each row as its keys on one line, and each other cell with its column's name on a line of its own."""
    keys, label = columns[: table.keys], [""] * table.keys
    for row in table.cells:
        label = [row[n].text or before for n, before in zip(keys, label, strict=True)]  # an empty key is the one above
        say(console, "  ".join(label), "bold")
        for n in columns[table.keys :]:
            if row[n].text:
                name = " ".join(table.columns[n].split())
                say(console, INDENT + (f"{name}  " if name else "") + row[n].text, STYLES[row[n].tone])
        console.print()
