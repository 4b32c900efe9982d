"""A page: one HTML file that needs neither a network nor scripts.

Commands describe a page as frozen values, and only `render` knows HTML. Every text except drawings is escaped. No
clock is read here. The date is one of the values, so that the same values give the same file.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crosscheck.report.svg import with_prefix
from crosscheck.report.table import Cell, Table
from jax_lstm._src.files import write_whole

NAME = "index.html"
NO_OUTCOME = Cell("")
VERSIONS = ("jax-lstm", "jax", "flax", "torch", "python")
MACHINE = ("machine", "processor", "torch instruction set")


@dataclass(frozen=True)
class Figure:
    """An inline SVG, and a caption that keeps its lines. If there is room, neighbouring figures share a row."""

    kind: ClassVar[str] = "figure"
    title: str
    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Words:
    """A text that keeps its lines, with indented ones as points. ``code`` shows it unchanged, in a fixed width."""

    kind: ClassVar[str] = "words"
    title: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Fold:
    """Sections behind a line that opens them. The line has a title, an outcome and a few notes."""

    kind: ClassVar[str] = "fold"
    title: str
    sections: tuple[Section, ...]
    outcome: Cell = NO_OUTCOME
    notes: tuple[str, ...] = ()
    open: bool = False
    anchor: str = ""


Section = Table | Figure | Words | Fold


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
      verdict: a few words, the first thing on the page.
      summary: what was done, and what the verdict means.
      environment: names and values, in the order in which they are shown.
      command: the command line that makes these results again.
      date: when the command ran, with a time zone. It is shown in UTC.

    Raises:
      ValueError: the date has no time zone.
    """

    title: str
    ok: bool
    verdict: str
    summary: str
    sections: tuple[Section, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    date: datetime | None = None

    def __post_init__(self) -> None:
        if self.date is not None and self.date.tzinfo is None:
            raise ValueError(f"date must have a time zone, as datetime.now(UTC) has; got {self.date!r}.")

    @property
    def origin(self) -> dict[str, str]:
        """The origin of the results. What is not known is left out."""
        known = {
            "date": f"{self.date.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.date else "",
            "command": self.command,
            "versions": ", ".join(f"{name} {self.environment[name]}" for name in VERSIONS if name in self.environment),
            "machine": ", ".join(str(self.environment[name]) for name in MACHINE if name in self.environment),
        }
        return {name: text for name, text in known.items() if text}


def render(page: Page) -> str:
    """Return the HTML document. The same page gives the same text."""
    figures = itertools.count(1)
    loader = PackageLoader("crosscheck.report", "")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters["inline"] = lambda svg: Markup(with_prefix(svg, f"figure-{next(figures)}"))
    return jinja.get_template("page.html.j2").render(page=page)


def write_page(page: Page, folder: Path) -> Path:
    """Write ``folder``/index.html, whole or not at all, and return its path. The folder is made if there is none.

    Raises:
      OSError: the file cannot be written.
    """
    text = render(page)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file, where a folder is needed", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    write_whole(file, text)
    return file
