"""What a run of the bench measures: checked before any work, then carried out one piece of work at a time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax

from crosscheck.bench.competitor import Competitor
from crosscheck.bench.competitors import choose
from crosscheck.bench.measure import Say, measure
from crosscheck.bench.result import Row
from crosscheck.bench.shapes import CPU_TABLE, GPU_TABLE, SWEEPS, Shape, parse_shape
from crosscheck.bench.timing import Clock
from crosscheck.bench.work import FEATURES, KINDS, PRECISIONS, make_work


@dataclass(frozen=True)
class Plan:
    shapes: tuple[Shape, ...]
    kinds: tuple[str, ...]
    competitors: tuple[Competitor, ...]
    feature: str = "plain"
    precision: str = "float32"
    sweep: str = ""
    command: str = "crosscheck bench"

    def run(self, most_runs: int, budget: float, say: Say, clock: Clock | None = None) -> Iterator[list[Row]]:
        """The rows of one piece of work after the other. ``say`` hears what is being done."""
        for shape in self.shapes:
            for kind in self.kinds:
                here = partial(_say_where, say, f"{shape} {kind}: ")
                work = make_work(shape, kind, self.feature, self.precision)
                yield measure(work, self.competitors, most_runs=most_runs, budget=budget, say=here, clock=clock)


def _say_where(say: Say, where: str, what: str) -> None:
    say(where + what)


def make_plan(
    shapes: Sequence[str] = (),
    kinds: Sequence[str] = (),
    only: Sequence[str] = (),
    feature: str = "plain",
    precision: str = "float32",
    sweep: str | None = None,
    threads: int | None = None,
) -> Plan:
    """From what the command line gave. Raises ValueError naming the option, what was expected and what came."""
    for option, values, allowed in (
        ("--work", kinds, KINDS),
        ("--feature", [feature], FEATURES),
        ("--precision", [precision], PRECISIONS),
        ("--sweep", [] if sweep is None else [sweep], tuple(SWEEPS)),
    ):
        for value in values:
            if value not in allowed:
                raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {value!r}")
    if sweep is not None and shapes:
        raise ValueError("--sweep has shapes of its own; leave --shape out")
    try:
        given = tuple(dict.fromkeys(map(parse_shape, shapes)))
    except ValueError as error:
        raise ValueError(f"--shape {error}") from error
    try:
        competitors = tuple(choose(list(only)))
    except ValueError as error:
        raise ValueError(f"--only: {error}") from error
    platform = jax.devices()[0].platform
    if precision == "tf32" and platform != "gpu":
        raise ValueError(f"--precision tf32 is a GPU's; JAX runs on {platform} here. Write --precision float32")
    table = SWEEPS[sweep] if sweep else GPU_TABLE if platform == "gpu" else CPU_TABLE
    line = _command(shapes, kinds, only, feature, precision, sweep, threads)
    kinds = tuple(dict.fromkeys(kinds or KINDS))
    return Plan(given or table, kinds, competitors, feature, precision, sweep or "", line)


def _command(shapes, kinds, only, feature, precision, sweep, threads) -> str:
    """The line that measures this again; where results are written is no part of it."""
    words = ["crosscheck", "bench"]
    for option, values in (("--shape", shapes), ("--work", kinds), ("--only", only)):
        words += [word for value in values for word in (option, value)]
    words += [] if feature == "plain" else ["--feature", feature]
    words += [] if precision == "float32" else ["--precision", precision]
    words += [] if sweep is None else ["--sweep", sweep]
    words += [] if threads is None else ["--threads", str(threads)]
    return shlex.join(words)
