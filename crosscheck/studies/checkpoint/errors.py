"""Errors that end a checkpoint command, each in one line of printable text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crosscheck.core.errors import first_line
from crosscheck.studies.checkpoint.budget import TooLarge

SAVE_AGAIN = "Is it whole? Download or save it again"


class BadFile(ValueError):
    """A file that cannot be read as a checkpoint. The message names the file, what is wrong and what to do."""

    def __init__(self, path: str | os.PathLike[str], wrong: str, advice: str):
        super().__init__(printable(f"{os.fspath(path)}: {wrong}. {advice}."))


class CannotExport(ValueError):
    """LSTMs that cannot be written as requested. The message names the place and what to do."""

    def __init__(self, out: str | os.PathLike[str], wrong: str):
        super().__init__(printable(f"{os.fspath(out)}: {wrong}"))


@contextmanager
def reading_as(what: str, path: Path) -> Iterator[None]:
    """Turn every error into a BadFile that says what the file looks like.

    Every Exception is caught: a damaged or hostile file can make zipfile, pickletools or NumPy raise any type.
    """
    try:
        yield
    except BadFile:
        raise
    except Exception as error:
        said = first_line(error).rstrip(".")
        advice = "Save only the weights, such as model.state_dict()" if isinstance(error, TooLarge) else SAVE_AGAIN
        raise BadFile(path, f"it looks like {what}, and reading it failed ({said})", advice) from error


def printable(text: str) -> str:
    """Return ``text`` with control characters and lone surrogates escaped: a file may have any names."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def listed(names: list[str], shown: int = 8) -> str:
    """Return the first few names, and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > shown else ""
    return printable(", ".join(names[:shown]) + more)
