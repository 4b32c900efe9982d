"""The options of a run, and the command line that repeats it. This file imports neither JAX nor torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

KINDS = ("forward", "training")
Feature = Literal["plain", "lengths", "projection", "bidirectional", "layers"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
Sweep = Literal["T", "H", "B"]
FEATURES: tuple[Feature, ...] = get_args(Feature)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that decide what is measured, by their names on the command line.

    Attributes:
      shape, work, only: what is measured. An empty one means all.
      feature: what the network has instead of one plain layer.
      precision: of every implementation.
      sweep: the axis along which the size grows.
      runs: the largest number of timed runs.
      seconds: for the runs of one piece of work.
      threads: cores for both frameworks. None means all.
    """

    shape: Sequence[str] = ()
    work: Sequence[str] = ()
    only: Sequence[str] = ()
    feature: Feature = "plain"
    precision: Precision = "float32"
    sweep: Sweep | None = None
    runs: int = 50
    seconds: float = 10.0
    threads: int | None = None

    @property
    def given(self) -> list[tuple[str, str]]:
        """The options that differ from their defaults, each with its value."""
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
