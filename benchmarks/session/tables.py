"""The tables of a session: each is measured in parts, and its file is written after every piece of work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.implementation import Ready, TimedImplementation
from benchmarks.measurement import Say, error_line
from benchmarks.options import Options
from benchmarks.plan import Plan, make_plan
from benchmarks.result import Result, Row, as_content, from_content, implementations_in
from benchmarks.session.correctness import FILE as CHECK_FILE
from benchmarks.session.schedule import Step, steps
from benchmarks.table import as_text, tables
from benchmarks.work import Work
from crosscheck.core.finding import CouldNotRun
from crosscheck.report.json import read_json, write_json

NO_TIME = "the time of the session was over"
RUNS = 10  # with ten runs, one comparison of forty finds a difference between equal implementations
BUDGET = 8.0  # seconds for the runs of a piece of work


class Session:
    """The time that is left, and the tables so far.

    Attributes:
      out: the folder of the files.
      end: when to stop, by `time.monotonic`.
      results: what was measured so far, by the name of the table.
      left_out: the steps for which no time was left.
    """

    def __init__(self, out: Path, end: float, say: Say) -> None:
        self.out, self.end, self._say = out, end, say
        self.results: dict[str, Result] = {}
        self.left_out: list[Step] = []
        self._longest = 0.0  # seconds per implementation, of the slowest piece of work so far

    def measure(self, step: Step) -> None:
        """Measure a step as far as the time allows. A failure is printed, and the session goes on."""
        try:
            options = Options(shape=[step.shape], only=step.only, precision=step.precision, runs=RUNS, seconds=BUDGET)
            plan = self._within_time(make_plan(options))
        except ValueError as error:
            print(f"\n## {step.table} at {step.shape}: left out: {error}", flush=True)
            return
        results = plan.run(self._say)
        for _ in range(plan.pieces):
            if not self._has_time_for(len(step.only)):
                self.left_out.append(step)
                return
            before = time.monotonic()
            try:
                result = next(results)
            except Exception as error:  # most likely the reference fails; other steps may still run
                print(f"\n## {step.table} at {step.shape}: failed: {error_line(error)}", flush=True)
                return
            self._longest = max(self._longest, (time.monotonic() - before) / len(step.only))
            self._add(step.table, result, options)

    def _has_time_for(self, implementations: int) -> bool:
        left = self.end - time.monotonic()
        return left > 0 and left >= self._longest * implementations

    def _within_time(self, plan: Plan) -> Plan:
        """Return a plan in which no implementation starts to compile after the end."""
        guarded = tuple(replace(each, ready=partial(self._ready, each)) for each in plan.implementations)
        return replace(plan, implementations=guarded)

    def _ready(self, implementation: TimedImplementation, work: Work) -> Ready:
        if time.monotonic() > self.end:
            raise CouldNotRun(NO_TIME)
        return implementation.ready(work)

    def _add(self, table: str, result: Result, options: Options) -> None:
        """Add the newest piece of work to a table, write the table, and print the piece."""
        work = result.rows[-1].work
        piece = tuple(row for row in result.rows if row.work == work)
        rows = merged(self.results[table].rows if table in self.results else (), piece)
        shapes = list(dict.fromkeys(str(row.shape) for row in rows))
        command = replace(options, shape=shapes, only=implementations_in(rows)).command  # measures the whole table
        self.results[table] = replace(result, rows=rows, command=command)
        write_json(self.out / f"{table}.json", "bench", as_content(self.results[table]))
        for shown in tables(Result(piece)):
            print(f"\n{as_text(shown)}", flush=True)


def merged(rows: Sequence[Row], piece: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows with one more piece of work.

    If this work was measured before, the measurement with more timed rows is kept. Times of two measurements are not
    mixed, since implementations take turns only within one measurement.
    """
    work = piece[0].work
    earlier = [row for row in rows if row.work == work]
    if sum(bool(row.seconds) for row in earlier) > sum(bool(row.seconds) for row in piece):
        return tuple(rows)
    return (*(row for row in rows if row.work != work), *piece)


def read_tables(folder: Path) -> dict[str, Result]:
    """Return the tables that an earlier session left in a folder, in the order of the steps.

    Raises:
      OSError: a file cannot be read.
      ValueError: a file is not a table.
    """
    order = list(dict.fromkeys(step.table for step in steps([""], [])))
    names = {path.stem for path in folder.glob("*.json") if path.name != CHECK_FILE}
    ordered = [name for name in order if name in names] + sorted(names.difference(order))
    return {name: from_content(read_json(folder / f"{name}.json", "bench")) for name in ordered}
