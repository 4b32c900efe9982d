"""The options of a run, and the command line that asks for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every option that decides what is measured, by its name on the command line.

    Attributes:
      shape, work, only: what is measured. An empty one stands for all.
      feature: in place of a plain layer.
      precision: of every implementation.
      sweep: the axis along which the cost is followed.
      runs: the largest number of timed runs.
      seconds: for the runs of one piece of work.
      threads: cores for both frameworks. None stands for all.
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
        """The options that are not at their defaults, each with its value."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            values = list(value) if isinstance(field.default, tuple) else [value] * (value != field.default)
            words += [(f"--{field.name}", str(each)) for each in values]
        return words

    @property
    def command(self) -> str:
        """The command line that measures this again. It writes no files."""
        return shlex.join(["python", "-m", "benchmarks", *(word for pair in self.given for word in pair)])


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a result goes, and in which form.

    Attributes:
      brief: only training, as a small table in Markdown.
      json_file: the file of --json.
      plot: the file of --plot.
    """

    brief: bool = False
    json_file: Path | None = None
    plot: Path | None = None
