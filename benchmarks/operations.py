"""Where the time of one call of ours goes on CPU: matrix products, gates, or moving data.

    python -m benchmarks.operations --shape 128,32,128,256 --work forward

Runs the program of `python -m benchmarks` under JAX's profiler and adds up the operations of the compiled program by kind.
Loops are left out, since their time is that of what runs inside; what no operation accounts for, such as waking threads
and the loops' own steps, is the rest of the call. Beside it stands torch.nn.LSTM's whole call, timed in turn with ours.
The profiler slows a call down, so that the sum is to be read beside the call under it, and more so with two threads at
work at once. Kinds are told by the names that XLA gives: "ynn" and "dot" are products, names of
copies, slices and transposes alone are moving data, and any other fusion is pointwise.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import Options
from benchmarks.plan import make_plan
from benchmarks.result import OURS, TORCH
from benchmarks.settings import measuring
from benchmarks.timing import interleave
from benchmarks.work import KINDS, make_work

MOVING = re.compile(r"(copy|bitcast|transpose|slice|dynamic|update|concatenate|broadcast|pad|wrapped|fusion)+")
CALLS = 5
Operation = tuple[str, float]  # name, seconds


def kind_of(name: str) -> str | None:
    """Of an operation by its name in the compiled program; None for a loop or a call, whose time is its contents'."""
    stem = re.sub(r"[.\d]+$", "", name)
    if stem in ("while", "call", "conditional"):
        return None
    if "ynn" in stem or "dot" in stem or "convolution" in stem:
        return "matrix products"
    return "moving data" if not re.sub(r"[-_]", "", MOVING.sub("", stem)) else "gates and other pointwise"


def profile_operations(call: Callable[[], Any], calls: int = CALLS) -> tuple[list[Operation], float]:
    """Every operation that ran in so many calls, with its seconds for one of them; and what one of them took."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            before = time.perf_counter()
            for _ in range(calls):
                call()
            took = (time.perf_counter() - before) / calls
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
        found = [
            (dict(event.stats)["hlo_op"], event.duration_ns / 1e9 / calls)
            for plane in profile.planes
            for line in plane.lines
            for event in line.events
            if "hlo_op" in dict(event.stats)
        ]
    return found, took


def by_kind(found: Iterable[Operation]) -> Counter[str]:
    """Seconds of each kind."""
    total: Counter[str] = Counter()
    for name, seconds in found:
        kind = kind_of(name)
        if kind is not None:
            total[kind] += seconds
    return total


def main(
    shape: Annotated[str, typer.Option(metavar="T,B,D,H")] = "128,32,128,256",
    work: Annotated[str, typer.Option(help=" or ".join(KINDS))] = "forward",
    seconds: Annotated[float, typer.Option(help="for the timed runs")] = 5.0,
) -> None:
    """Where the time of one call of jax_lstm goes on CPU."""
    try:
        plan = make_plan(Options(shape=[shape], work=[work], only=[OURS, TORCH], seconds=seconds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with measuring("float32"):
        asked = make_work(*plan.shapes, work, "plain", "float32")
        calls = {each.name: each.ready(asked).call for each in plan.implementations}
        for call in calls.values():
            call()
        times = interleave(calls, dict.fromkeys(calls, 0.0), most_runs=50, budget=seconds)
        median = {name: statistics.median(each.seconds) for name, each in times.items()}
        found, profiled = profile_operations(calls[OURS])
    table = Table(title=f"{shape}, {work}", title_justify="left", box=None, pad_edge=False)
    for name, side in (("", "left"), ("ms", "right"), (f"of {TORCH}'s call", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    rows = [(f"{name}, a call", median[name]) for name in (TORCH, OURS)]
    rows += [(f"{OURS}, a call under the profiler", profiled), *by_kind(found).most_common()]
    for name, value in rows:
        table.add_row(name, f"{value * 1e3:.3g}", f"{value / median[TORCH]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
