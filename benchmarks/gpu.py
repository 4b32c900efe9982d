"""Runs everything for one session on a GPU, the most important first, in ``--seconds`` with start-up and compilation.

    python -m benchmarks.gpu --out DIR

1. The check: jax_lstm on the GPU against torch.nn.LSTM in float64 on the CPU, in each precision, on each backend. If
   jax_lstm is wrong, the session ends with exit code 1, and nothing is timed.
2. The tables, in the order of `benchmarks.session.schedule`. A file is written after each piece of work.
3. The conclusions: the time of one step, what the rule between the backends may say, and the commands to type next.

``--read`` prints the third part of an earlier session again, from its files. jax, flax and torch must be installed. Any
other library that is missing is a row with its reason. The output is plain text and the arguments are parsed by
argparse, since such a machine may lack the libraries of the command line.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.shapes import parse_shape

STARTED = time.monotonic()  # JAX and torch are imported later: that takes many seconds on a fresh machine


def main(arguments: Sequence[str] | None = None, started: float | None = None) -> int:
    """Run the command line, and return the exit code. ``started`` is when the session began, by default now."""
    started = time.monotonic() if started is None else started
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="All benchmarks of one GPU session.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go, as JSON")
    parser.add_argument(
        "--seconds",
        type=float,
        default=300.0,
        help="start nothing new after these, from the first import (%(default)s)",
    )
    parser.add_argument("--shape", action="append", metavar="T,B,D,H", help="only these shapes")
    parser.add_argument("--go-on", action="store_true", help="measure even if jax_lstm is wrong; the exit code stays 1")
    parser.add_argument("--read", action="store_true", help="measure nothing; print what follows from the files of DIR")
    given = parser.parse_args(arguments)
    try:
        shapes = [str(parse_shape(text)) for text in given.shape or ()]
        given.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # before JAX starts, which else takes all memory
    from benchmarks.session.timeline import read, run  # slow to import

    if not given.read:
        return run(given.out, started, given.seconds, shapes, go_on=given.go_on)
    try:
        return read(given.out)
    except (ValueError, OSError) as error:
        parser.error(f"--read: {error}")


if __name__ == "__main__":
    raise SystemExit(main(started=STARTED))
