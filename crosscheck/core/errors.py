"""An error in one line, and the error of an implementation that runs only at its own sizes."""

from __future__ import annotations

from collections.abc import Callable

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Results


class OnlyOwnSizes(CouldNotRun):
    """An implementation that computed its own problem could not compute one of other sizes."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def run_at_other_sizes(run: Callable[[], Results]) -> Results:
    """Run an implementation on a problem whose sizes differ from those of the problem that it computed before.

    Any error then means that sizes are written into the implementation, such as the batch size of its initial state.

    Raises:
      OnlyOwnSizes: ``run`` raised.
    """
    try:
        return run()
    except Exception as error:
        raise OnlyOwnSizes(first_line(error)) from error
