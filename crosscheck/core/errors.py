"""An error in one line, and the error of an implementation that runs only at its own sizes."""

from __future__ import annotations

import dis
import os
from collections.abc import Callable
from types import ModuleType

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Results

_RAISE = dis.opmap["RAISE_VARARGS"]


class OnlyOwnSizes(CouldNotRun):
    """An implementation that computed its own problem could not compute one of other sizes."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_raised_outside(error: BaseException, library: ModuleType) -> bool:
    """Return whether a ``raise`` in Python code outside of a library raised an error.

    Compiled code raises without one, and JAX leaves its own frames out of a traceback.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    code = last.tb_frame.f_code
    folder = os.path.join(os.path.dirname(str(library.__file__)), "")
    return code.co_code[last.tb_lasti] == _RAISE and not code.co_filename.startswith(folder)


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
