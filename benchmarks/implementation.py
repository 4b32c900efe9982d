"""What an implementation is: a name, and how to make it ready for a piece of work.

A file in `implementations/` and its name in the table there. `ready` gives a :class:`Ready` or raises :class:`Missing` with
the reason, which becomes its row; any other exception becomes one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.work import Arrays, Work


class Missing(Exception):
    """Why an implementation has no figure here: not installed, or without what the work asks for."""


@dataclass(frozen=True)
class Ready:
    """An implementation at the start line, warm.

    call: one run of the work, whole when it returns. read: what it returned as float32 NumPy by the names of
    :func:`benchmarks.work.reference`, time-major. compile_seconds: None where nothing is compiled. memory: bytes
    at the peak beside its inputs, None where it cannot be known.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Arrays]
    compile_seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Implementation:
    """package: the distribution whose version belongs to the row."""

    name: str
    package: str
    description: str
    ready: Callable[[Work], Ready]


def only_plain(work: Work, reasons: dict[str, str]) -> None:
    """Raises Missing for a feature that the library's own layer lacks."""
    if work.feature != "plain":
        raise Missing(reasons[work.feature])
