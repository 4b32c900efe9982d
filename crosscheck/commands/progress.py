"""Progress on stderr, if that is a terminal: what runs and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.text import Text

from crosscheck.commands.interrupts import on_interrupt


class Work:
    """The pieces of work that run, each with its start, and a bar of those that are done."""

    def __init__(self, bar: Progress, total: int | None, **fields: Any) -> None:
        self._bar, self._running = bar, dict[str, float]()
        self._task = bar.add_task("", total=total, running=self._running, **fields)

    def begins(self, name: str) -> None:
        """Show a piece of work."""
        self._running[name] = time.monotonic()
        self._bar.refresh()

    def ends(self, name: str) -> None:
        """Count a piece of work as done."""
        self._running.pop(name, None)
        self._bar.update(self._task, advance=1)

    def advances(self, **fields: Any) -> None:
        """Count a piece of the running work as done, and show its ``fields``."""
        self._bar.update(self._task, advance=1, **fields)

    def does(self, name: str, advance: int = 0) -> None:
        """Show this piece of work in place of all others, and count ``advance`` pieces as done."""
        self._running.clear()
        self._bar.update(self._task, advance=advance)
        self.begins(name)


@contextmanager
def show_progress(total: int | None = None, *more: ProgressColumn, **fields: Any) -> Iterator[Work]:
    """Show what runs and for how long, and with a ``total`` how many pieces are done.

    An interrupt removes it from the terminal too.

    Args:
      total: the number of pieces.
      *more: further columns.
      **fields: the first values of what these columns show.
    """
    counted = (BarColumn(10), MofNCompleteColumn()) if total is not None else ()
    console = Console(stderr=True)
    bar = Progress(*counted, Running(), *more, console=console, transient=True, disable=not console.is_terminal)
    with bar, on_interrupt(bar.stop):
        yield Work(bar, total, **fields)


@contextmanager
def loading() -> Iterator[None]:
    """Show that both frameworks are being imported, which takes seconds."""
    with show_progress() as work:
        work.begins("loading JAX and torch")
        yield


class Running(ProgressColumn):
    """The names of what runs, each with its seconds."""

    def render(self, task: Task) -> Text:
        """Return the line."""
        now = time.monotonic()
        running = list(task.fields["running"].items())
        words = ", ".join(f"{name} {now - since:.0f} s" for name, since in running)
        return Text(words, no_wrap=True, overflow="ellipsis")
