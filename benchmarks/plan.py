"""The plan of a run: what it measures. The plan is checked before any work, and then carried out piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import jax

from benchmarks.implementation import TimedImplementation
from benchmarks.implementations import choose
from benchmarks.measurement import Say, measure
from benchmarks.options import KINDS, Options
from benchmarks.result import Result, Row
from benchmarks.settings import record
from benchmarks.shapes import CPU_TABLE, GPU_TABLE, SWEEPS, Shape, parse_shape
from benchmarks.work import make_work


@dataclass(frozen=True)
class Plan:
    """The plan: every kind of work at every shape."""

    shapes: tuple[Shape, ...]
    kinds: tuple[str, ...]
    implementations: tuple[TimedImplementation, ...]
    options: Options

    @property
    def pieces(self) -> int:
        """The number of pieces of work."""
        return len(self.shapes) * len(self.kinds)

    def run(self, say: Say) -> Iterator[Result]:
        """Measure one piece of work after the other. After each one, yield the result of all pieces so far.

        ``say`` gets a line of text about the progress.
        """
        options, rows = self.options, list[Row]()
        settings = record(options.precision)
        for shape, kind in product(self.shapes, self.kinds):
            work = make_work(shape, kind, options.feature, options.precision)
            rows += measure(work, self.implementations, most_runs=options.runs, budget=options.seconds, say=say)
            yield Result(tuple(rows), settings, options.command, options.sweep or "")


def make_plan(options: Options) -> Plan:
    """Return what the options ask for.

    Raises:
      ValueError: an option is wrong. The message names the option, what was expected and what was given.
    """
    for kind in options.work:
        if kind not in KINDS:
            raise ValueError(f"--work must be one of {', '.join(KINDS)}; got {kind!r}")
    if options.sweep is not None and options.shape:
        raise ValueError("--sweep has shapes of its own; leave --shape out")
    if options.runs < 1:
        raise ValueError(f"--runs must be at least 1; got {options.runs}")
    if not 0 < options.seconds < float("inf"):
        raise ValueError(f"--seconds must be over 0; got {options.seconds}")
    try:
        given = tuple(dict.fromkeys(map(parse_shape, options.shape)))
    except ValueError as error:
        raise ValueError(f"--shape {error}") from error
    try:
        implementations = tuple(choose(options.only))
    except ValueError as error:
        raise ValueError(f"--only: {error}") from error
    platform = jax.devices()[0].platform
    if options.precision == "tf32" and platform != "gpu":
        raise ValueError(f"--precision tf32 is a GPU's; JAX runs on {platform} here. Write --precision float32")
    table = SWEEPS[options.sweep] if options.sweep else GPU_TABLE if platform == "gpu" else CPU_TABLE
    return Plan(given or table, tuple(dict.fromkeys(options.work or KINDS)), implementations, options)
