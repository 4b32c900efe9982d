"""Errors that end a checkpoint command, each in one line of printable text."""

from __future__ import annotations

import os


class BadFile(ValueError):
    """A file that cannot be read as a checkpoint. The message names the file, what is wrong and what to do."""

    def __init__(self, path: str | os.PathLike[str], wrong: str, advice: str):
        super().__init__(printable(f"{os.fspath(path)}: {wrong}. {advice}."))


class CannotExport(ValueError):
    """LSTMs that cannot be written as requested. The message names the place and what to do."""

    def __init__(self, out: str | os.PathLike[str], wrong: str):
        super().__init__(printable(f"{os.fspath(out)}: {wrong}"))


def printable(text: str) -> str:
    """Return ``text`` with control characters and lone surrogates escaped: a file may have any names."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error that has text, without its full stop; else the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def listed(names: list[str], shown: int = 8) -> str:
    """Return the first few names, and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > shown else ""
    return printable(", ".join(names[:shown]) + more)
