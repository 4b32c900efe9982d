"""Runs the parts of a session in order: check, measure, and print the conclusions."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import torch

from benchmarks.conclusions import settings_line
from benchmarks.options import Precision
from benchmarks.result import Result
from benchmarks.session.correctness import FILE, PLAIN, cases, check
from benchmarks.session.follow_up import commands, paragraphs
from benchmarks.session.per_step import per_step_table
from benchmarks.session.rule import rule_lines
from benchmarks.session.schedule import steps
from benchmarks.session.tables import Session, read_tables
from benchmarks.shapes import GPU_TABLE
from benchmarks.table import as_text
from jax_lstm._src.files import write_whole

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
FIRST = ("1024,32,256,256", "10000,1,32,128", "512,64,512,512", "1000,16,128,128")
CHECK_SHARE = 0.25  # of the time of the session, at most
REPORT = "report.txt"


def run(out: Path, started: float, seconds: float, shapes: Sequence[str] = (), *, go_on: bool = False) -> int:
    """Run a whole session, and return the exit code: 1 if jax_lstm is wrong anywhere, else 0.

    Args:
      out: the folder of the files.
      started: when the session began, by `time.monotonic`.
      seconds: nothing new starts this many seconds after that.
      shapes: the shapes to measure instead of the defaults for a GPU.
      go_on: measure even if the check finds that jax_lstm is wrong.
    """
    print(f"jax {jax.__version__} on {jax.devices()[0]}, torch {torch.__version__}", flush=True)
    session = Session(out, started + seconds, lambda what: print(what, file=sys.stderr, flush=True))
    checked_until = time.monotonic() + CHECK_SHARE * seconds
    right = check(cases(shapes or PLAIN), PRECISIONS, out, lambda: time.monotonic() < checked_until)
    if not right and not go_on:
        print(
            f"jax_lstm is WRONG on this device. The lines above that contain WRONG say where, and so does {FILE}. "
            "Nothing was timed. --go-on measures all the same.",
            flush=True,
        )
        return 1
    rest = [str(shape) for shape in GPU_TABLE if str(shape) not in FIRST]
    for step in steps(shapes, []) if shapes else steps(FIRST, rest):
        session.measure(step)
    if session.left_out:
        print("\nno time was left for:", *(f"{step.table} {step.shape}" for step in session.left_out), sep="\n  ")
    code = close(session.results, out)
    print(f"\ntook {time.monotonic() - started:.0f} s", flush=True)
    return code if right else 1


def read(out: Path) -> int:
    """Print the conclusions from the files of an earlier session, and return the exit code.

    Raises:
      OSError: a file cannot be read.
      ValueError: a file is not a table.
    """
    return close(read_tables(out), out)


def close(results: Mapping[str, Result], out: Path) -> int:
    """Print and write the conclusions from the tables. Return 1 if ours computes something else in a table, else 0."""
    lines = []
    for table, result in results.items():
        lines.append(f"{table}: {settings_line(result)}")
        wrong = [row for row in result.rows if row.ours and row.differs]
        lines += [f"WRONG: {row.implementation} at {row.shape} {row.kind}: {row.reason}" for row in wrong]
    lines += ["", as_text(per_step_table(results.values()))]
    lines += ["", "## The rule between scan and cudnn", "", *rule_lines(results.values()), ""]
    last = ["## What to type next", "", *commands(results, out)]
    quoted = ["## For benchmarks/README.md", "", *paragraphs(results)]
    write_whole(out / REPORT, "\n".join([*lines, *quoted, *last, ""]))
    print("", *lines, *last, sep="\n", flush=True)
    return int(any(result.exit_code == 1 for result in results.values()))
