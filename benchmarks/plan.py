"""What a run of the bench measures: checked before any work, then carried out one piece of work at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax

from benchmarks.implementation import Implementation
from benchmarks.implementations import choose
from benchmarks.measurement import Say, measure
from benchmarks.options import Options
from benchmarks.result import Row
from benchmarks.shapes import CPU_TABLE, GPU_TABLE, SWEEPS, Shape, parse_shape
from benchmarks.timing import Clock
from benchmarks.work import FEATURES, KINDS, PRECISIONS, make_work


@dataclass(frozen=True)
class Plan:
    shapes: tuple[Shape, ...]
    kinds: tuple[str, ...]
    implementations: tuple[Implementation, ...]
    options: Options

    def run(self, say: Say, clock: Clock | None = None) -> Iterator[list[Row]]:
        """The rows of one piece of work after the other. ``say`` hears what is being done."""
        asked = self.options
        for shape in self.shapes:
            for kind in self.kinds:
                here = partial(_say_where, say, f"{shape} {kind}: ")
                work = make_work(shape, kind, asked.feature, asked.precision)
                yield measure(
                    work, self.implementations, most_runs=asked.runs, budget=asked.seconds, say=here, clock=clock
                )


def _say_where(say: Say, where: str, what: str) -> None:
    say(where + what)


def make_plan(options: Options) -> Plan:
    """Raises ValueError naming the option, what was expected and what came."""
    asked = options
    for option, values, allowed in (
        ("--work", asked.work, KINDS),
        ("--feature", [asked.feature], FEATURES),
        ("--precision", [asked.precision], PRECISIONS),
        ("--sweep", [] if asked.sweep is None else [asked.sweep], tuple(SWEEPS)),
    ):
        for value in values:
            if value not in allowed:
                raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {value!r}")
    if asked.sweep is not None and asked.shape:
        raise ValueError("--sweep has shapes of its own; leave --shape out")
    if asked.runs < 1:
        raise ValueError(f"--runs must be at least 1; got {asked.runs}")
    if not 0 < asked.seconds < float("inf"):
        raise ValueError(f"--seconds must be over 0; got {asked.seconds}")
    try:
        given = tuple(dict.fromkeys(map(parse_shape, asked.shape)))
    except ValueError as error:
        raise ValueError(f"--shape {error}") from error
    try:
        implementations = tuple(choose(list(asked.only)))
    except ValueError as error:
        raise ValueError(f"--only: {error}") from error
    platform = jax.devices()[0].platform
    if asked.precision == "tf32" and platform != "gpu":
        raise ValueError(f"--precision tf32 is a GPU's; JAX runs on {platform} here. Write --precision float32")
    table = SWEEPS[asked.sweep] if asked.sweep else GPU_TABLE if platform == "gpu" else CPU_TABLE
    return Plan(given or table, tuple(dict.fromkeys(asked.work or KINDS)), implementations, asked)
