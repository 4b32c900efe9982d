"""A page: one HTML file that needs nothing else, neither a network nor scripts.

What is on it is said in frozen values, by whichever command has something to report; only `render` knows HTML. Every
text is escaped. Drawings come from `crosscheck.report.plots` and go in as they are. No clock is read here: the date is
one of the values, so that the same values give the same file.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crosscheck.report.svg import with_prefix
from jax_lstm._src.files import write_whole

Tone = Literal["", "good", "doubt", "bad"]
NAME = "index.html"
VERSIONS = ("jax-lstm", "jax", "flax", "torch", "python")
MACHINE = ("machine", "processor", "torch instruction set")


@dataclass(frozen=True)
class Cell:
    """A text in a table. ``tone`` gives it a sign and a colour; ``to`` is the anchor of a Fold that it leads to."""

    text: str
    tone: Tone = ""
    to: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts or Cells, as many as there are columns (ValueError); columns named in ``numeric`` stand right.

    A table that is wider than the screen scrolls in a box, which is read out as ``label``, else as the title.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    numeric: tuple[str, ...] = ()
    label: str = ""

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row of {len(row)} for {len(self.columns)} columns: {row}.")

    @property
    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        return tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in self.rows)


@dataclass(frozen=True)
class Figure:
    """An inline SVG, and a caption whose lines stay lines. Where there is room, figures in a row stand side by side."""

    kind: ClassVar[str] = "figure"
    title: str
    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Words:
    """A text whose lines stay lines, indented ones as points; ``code`` keeps it to the letter, in fixed width."""

    kind: ClassVar[str] = "words"
    title: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Fold:
    """Sections behind a line that opens them: its title, its outcome and a few notes."""

    kind: ClassVar[str] = "fold"
    title: str
    sections: tuple[Section, ...]
    outcome: Cell = Cell("")
    notes: tuple[str, ...] = ()
    open: bool = False
    anchor: str = ""


Section = Table | Figure | Words | Fold


@dataclass(frozen=True)
class Page:
    """verdict: a few words, the first thing on the page. summary: what was done, and what the verdict means.

    command: the whole command line that makes these results again. date: of the run, with its time zone (ValueError
    without one); shown in UTC. environment: names and values, in the order in which they are shown.
    """

    title: str
    ok: bool
    verdict: str
    summary: str
    sections: tuple[Section, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    date: datetime | None = None

    def __post_init__(self):
        if self.date is not None and self.date.tzinfo is None:
            raise ValueError(f"date must have a time zone, as datetime.now(UTC) has; got {self.date!r}.")

    @property
    def origin(self) -> dict[str, str]:
        """What a reader needs to know first of where the results come from; what is not known is left out."""
        known = {
            "date": f"{self.date.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.date else "",
            "command": self.command,
            "versions": ", ".join(f"{name} {self.environment[name]}" for name in VERSIONS if name in self.environment),
            "machine": ", ".join(str(self.environment[name]) for name in MACHINE if name in self.environment),
        }
        return {name: text for name, text in known.items() if text}


def render(page: Page) -> str:
    """The whole HTML document; the same page gives the same text."""
    figures = itertools.count(1)
    loader = PackageLoader("crosscheck.report", "")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters["inline"] = lambda svg: Markup(with_prefix(svg, f"figure-{next(figures)}"))
    return jinja.get_template("page.html.j2").render(page=page)


def write_page(page: Page, folder: Path) -> Path:
    """Writes ``folder``/index.html, whole or not at all, and makes the folder where there is none. OSError."""
    text = render(page)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file, where a folder is needed", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    write_whole(file, text)
    return file
