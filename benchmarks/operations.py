"""Where the time of one call of ours goes on CPU: matrix products, gates, or moving data.

    python -m benchmarks.operations --shape 128,32,128,256 --work forward

The program of `python -m benchmarks` runs under JAX's profiler, and the times of its operations are added up by kind.
Loops are left out, since their time is that of their contents. The rest of a call is time outside of any operation,
such as waking threads and the steps of the loops. The table also has the whole call of torch.nn.LSTM, timed in turn
with jax_lstm's. The profiler slows a call down, more so if two threads work at once. So compare the sum with the call
under the profiler. The kind is known from XLA's name of an operation: "ynn" and "dot" are products; a name of only
copies, slices and transposes is moving data; any other fusion is pointwise.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import jax
import typer

from benchmarks.options import KINDS, Options
from benchmarks.plan import make_plan
from benchmarks.result import OURS, TORCH
from benchmarks.settings import measuring
from benchmarks.timing import medians
from benchmarks.work import make_work
from crosscheck.report.table import Table
from crosscheck.report.terminal import output, show

MOVING = re.compile(r"(copy|bitcast|transpose|slice|dynamic|update|concatenate|broadcast|pad|wrapped|fusion)+")
CALLS = 5
Operation = tuple[str, float]  # name, seconds


def kind_of(name: str) -> str | None:
    """Return the kind of an operation by its name, or None for a loop or a call, whose time is that of its contents."""
    stem = re.sub(r"[.\d]+$", "", name)
    if stem in ("while", "call", "conditional"):
        return None
    if "ynn" in stem or "dot" in stem or "convolution" in stem:
        return "matrix products"
    return "moving data" if not re.sub(r"[-_]", "", MOVING.sub("", stem)) else "gates and other pointwise"


def profile_operations(call: Callable[[], Any], calls: int = CALLS) -> tuple[list[Operation], float]:
    """Run a call several times. Return every operation with its seconds per call, and the seconds of one call."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            before = time.perf_counter()
            for _ in range(calls):
                call()
            took = (time.perf_counter() - before) / calls
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
        operations = [
            (dict(event.stats)["hlo_op"], event.duration_ns / 1e9 / calls)
            for plane in profile.planes
            for line in plane.lines
            for event in line.events
            if "hlo_op" in dict(event.stats)
        ]
    return operations, took


def by_kind(operations: Iterable[Operation]) -> dict[str, float]:
    """Return the seconds per kind, the largest first."""
    total: dict[str, float] = {}
    for name, seconds in operations:
        kind = kind_of(name)
        if kind is not None:
            total[kind] = total.get(kind, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def main(
    shape: Annotated[str, typer.Option(metavar="T,B,D,H")] = "128,32,128,256",
    work: Annotated[str, typer.Option(help=" or ".join(KINDS))] = "forward",
    seconds: Annotated[float, typer.Option(help="for the timed runs")] = 5.0,
) -> None:
    """Show where the time of one call of jax_lstm goes on CPU."""
    try:
        plan = make_plan(Options(shape=[shape], work=[work], only=[OURS, TORCH], seconds=seconds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with measuring("float32"):
        (piece,) = (make_work(size, work) for size in plan.shapes)
        calls = {each.name: each.ready(piece).call for each in plan.implementations}
        median = medians(calls, most_runs=50, budget=seconds)
        operations, profiled = profile_operations(calls[OURS])
    rows = [(f"{name}, a call", median[name]) for name in (TORCH, OURS)]
    rows += [(f"{OURS}, a call under the profiler", profiled), *by_kind(operations).items()]
    columns = ("what", "ms", f"of {TORCH}'s call")
    cells = tuple((name, f"{value * 1e3:.3g}", f"{value / median[TORCH]:.2f}") for name, value in rows)
    show(output(), Table(f"{shape}, {work}", columns, cells, numeric=columns[1:]))


if __name__ == "__main__":
    typer.run(main)
