"""An implementation: its name, and how to make it ready for a piece of work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.work import Work
from crosscheck.core.problem import Results


@dataclass(frozen=True)
class Ready:
    """An implementation that is compiled and warm. Its next call can be timed.

    Attributes:
      call: runs the work once. It returns when all results are there.
      read: turns what ``call`` returned into float32 NumPy, time-major, as `benchmarks.work.reference` does.
      compile_seconds: None if nothing is compiled.
      memory: the peak in bytes without its inputs; None if it is unknown.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Results]
    compile_seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class TimedImplementation:
    """An LSTM to be timed.

    Attributes:
      name: its name in tables and on the command line.
      package: the distribution whose version belongs to its rows.
      description: one line for ``--list``.
      ready: makes it ready for a piece of work. It raises `CouldNotRun` with the reason if the library cannot do the
        work. Its row gives this reason, as for any other exception.
    """

    name: str
    package: str
    description: str
    ready: Callable[[Work], Ready]
