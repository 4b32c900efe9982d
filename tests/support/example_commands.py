"""Shared code of the tests of the examples: a kill, the files of a run, and a check of wrong input."""

from __future__ import annotations

from pathlib import Path


class Killed(BaseException):
    """A stand-in for a kill. No code catches it."""


def refused_in_one_line(result: tuple[int | str, str, str], *words: str) -> None:
    """Check that a command ended with exit code 2, and with one line on stderr that has these words."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), result
    for word in words:
        assert word in err


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file outside the checkpoints, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
