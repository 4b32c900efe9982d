"""Failures of a command as one line on stderr. This imports neither framework, since every command line needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import typer

from crosscheck.core.missing import what_is_missing
from crosscheck.core.names import known_names, split_names


class Failure(Exception):
    """A failure that stops a command. The command line prints its first line on stderr and ends with exit code 2."""


def fail(message: str) -> NoReturn:
    """Stop the command with one line.

    Raises:
      Failure: always.
    """
    raise Failure((message.splitlines() or [""])[0])


@contextmanager
def failures_in_one_line() -> Iterator[None]:
    """End the command with one line and exit code 2 on any exception within. Open no progress bar around it."""
    from crosscheck.core.finding import CouldNotRun  # needs NumPy

    try:
        yield
    except (Failure, typer.Exit, typer.Abort):
        raise
    except CouldNotRun as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        line = what_is_missing(error)
        if line is None:
            raise
        fail(line)
    except Exception as error:  # a worker that was killed, a device out of memory: nothing was judged
        fail(f"{type(error).__name__}: {error}")


def names_of(option: str, given: Sequence[str] | None, kind: str = "", known: Sequence[str] = ()) -> list[str]:
    """Return the names that a list option gives, all of them ``known`` if that is given; failing ends the command."""
    try:
        return known_names(given or (), kind, known) if known else split_names(given or ())
    except ValueError as error:
        fail(f"{option}: {error}")
