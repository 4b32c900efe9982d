"""Runs everything for one session on a GPU, the most important first, for at most ``--seconds``.

    python -m benchmarks.gpu --out DIR

1. The check: jax_lstm on the GPU in each precision against torch.nn.LSTM in float64 on the CPU.
2. The most important shapes, in float32, TF32 and bfloat16.
3. Ours with several steps per iteration.
4. The rest of the table, in the same three precisions.

Each table is written as soon as it is there. jax, flax and torch must be installed. Any other library that is missing
is a row with its reason. The output is plain text and the arguments are parsed by argparse, since such a machine may
lack the libraries of the command line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # before JAX starts, or torch finds no memory beside it

import jax
import torch

from benchmarks.agreement import limit, worst
from benchmarks.conclusions import sentences, settings_line
from benchmarks.implementations import KNOWN, choose
from benchmarks.measurement import Say, error_line
from benchmarks.options import Feature, Options, Precision
from benchmarks.plan import Plan, make_plan
from benchmarks.result import Result, as_content
from benchmarks.settings import measuring, record
from benchmarks.shapes import GPU_TABLE, parse_shape
from benchmarks.table import as_text, tables
from benchmarks.work import make_work, reference
from crosscheck.report.json import write_json
from jax_lstm._src.files import write_whole

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
FIRST = ("1024,32,256,256", "10000,1,32,128", "512,64,512,512", "1000,16,128,128")
CHECKED: tuple[tuple[str, Feature], ...] = (
    ("10,2,300,256", "plain"),
    ("1000,16,128,128", "plain"),
    ("40,5,24,36", "lengths"),
    ("40,5,24,36", "layers"),
)
CHECK = ("shape", "feature", "precision", "quantity", "error", "limit")
UNROLLED = (1, 2, 4, 8, 16)
SLOW_TO_COMPILE = {"torch.compile"}
RUNS, BUDGET = 30, 1.5  # of each piece of work


class Session:
    """The time that is left, and the folder of the results."""

    def __init__(self, out: Path, seconds: float, say: Say) -> None:
        self.out, self.seconds, self.say = out, seconds, say
        self.started, self.longest = time.monotonic(), 0.0

    @property
    def over(self) -> bool:
        """Whether another piece of work as long as the longest so far would end too late."""
        return time.monotonic() - self.started + self.longest > self.seconds

    def table(self, name: str, plan: Plan) -> None:
        """Measure as much of the plan as the time allows, write it after each piece, and print it."""
        result, before = Result(()), time.monotonic()
        results = plan.run(self.say)
        while not self.over and (more := next(results, None)) is not None:
            now = time.monotonic()
            self.longest, before, result = max(self.longest, now - before), now, more
            write_json(self.out / f"{name}.json", "bench", as_content(result))
        done = len({row.work for row in result.rows})
        print(f"\n## {name}: {done} of {plan.pieces} pieces of work\n{settings_line(result)}\n")
        for table in tables(result):
            print(as_text(table), end="\n\n")
        print(*sentences(result), sep="\n", flush=True)


def check(session: Session, shapes: Sequence[tuple[str, Feature]]) -> bool:
    """Check ours on JAX's default device against torch in float64 on the CPU. Print and write the largest errors."""
    rows, ok = [], True
    (ours,) = choose(["jax_lstm"])
    for (text, feature), precision in ((each, p) for each in shapes for p in PRECISIONS):
        work = make_work(parse_shape(text), "training", feature, precision)
        try:
            with measuring(precision):
                ready = ours.ready(work)
                quantity, error = worst(work, reference(work, dtype=torch.float64), ready.read(ready.call()))
        except Exception as raised:  # it is reported, and the tables may still say where it works
            quantity, error = error_line(raised), math.inf
        right = error <= limit(work)
        values = (text, feature, precision, quantity, float(f"{error:.3e}"), limit(work))
        print("right" if right else "WRONG", *values, flush=True)
        rows.append(dict(zip(CHECK, map(str, values), strict=True)))
        ok = ok and right
    content = {"ok": ok, "settings": record("float32"), "rows": rows}
    write_whole(session.out / "correctness.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return ok


def run(session: Session, first: Sequence[str], rest: Sequence[str], checked: Sequence[tuple[str, Feature]]) -> bool:
    """Take all steps in order, and return whether ours was right."""
    ok = check(session, checked)
    all_but_slow = [name for name in KNOWN if name not in SLOW_TO_COMPILE]
    unrolled = ["jax_lstm", *(f"jax_lstm unroll={n}" for n in UNROLLED[1:])]
    steps = [
        *((f"first-{precision}", first, precision, all_but_slow) for precision in PRECISIONS),
        ("unroll-float32", first, "float32", unrolled),
        ("unroll-bfloat16", first, "bfloat16", unrolled),
        *((f"rest-{precision}", rest, precision, all_but_slow) for precision in PRECISIONS),
    ]
    for name, shapes, precision, only in steps:
        if session.over or not shapes:
            print(f"\n## {name}: left out, {'no time' if shapes else 'no shapes'} left", flush=True)
            continue
        try:
            plan = make_plan(Options(shape=shapes, only=only, precision=precision, runs=RUNS, seconds=BUDGET))
        except ValueError as error:
            print(f"\n## {name}: left out: {error}", flush=True)
            continue
        session.table(name, plan)
    return ok


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="All benchmarks of one GPU session.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go, as JSON")
    parser.add_argument("--seconds", type=float, default=450.0, help="when to stop (%(default)s)")
    parser.add_argument("--shape", action="append", metavar="T,B,D,H", help="only these shapes")
    given = parser.parse_args(arguments)
    try:
        shapes = [str(parse_shape(text)) for text in given.shape or ()]
        given.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"jax {jax.__version__} on {jax.devices()[0]}, torch {torch.__version__}", flush=True)
    session = Session(given.out, given.seconds, lambda what: print(what, file=sys.stderr, flush=True))
    if shapes:
        return 0 if run(session, shapes, [], [(shape, "plain") for shape in shapes]) else 1
    rest = [str(shape) for shape in GPU_TABLE if str(shape) not in FIRST]
    return 0 if run(session, FIRST, rest, CHECKED) else 1


if __name__ == "__main__":
    raise SystemExit(main())
