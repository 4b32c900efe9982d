"""What a run of the bench is asked for, and the command line that asks for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every option that decides what is measured, under its name on the command line.

    An option that is not a field here can neither be asked for nor be missing from ``command``. shape, work and only
    may be given several times, and empty ones stand for all. runs: the most of each. seconds: for the runs of one
    piece of work.
    """

    shape: Sequence[str] = ()
    work: Sequence[str] = ()
    only: Sequence[str] = ()
    feature: str = "plain"
    precision: str = "float32"
    sweep: str | None = None
    runs: int = 50
    seconds: float = 10.0
    threads: int | None = None

    @property
    def given(self) -> list[tuple[str, str]]:
        """Option and value, of each that is not at its default."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            values = list(value) if isinstance(field.default, tuple) else [value] * (value != field.default)
            found += [(f"--{field.name}", str(each)) for each in values]
        return found

    @property
    def command(self) -> str:
        """The line that measures this again; where results are written is no part of it."""
        return shlex.join(["python", "-m", "benchmarks", *(word for pair in self.given for word in pair)])
