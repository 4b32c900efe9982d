"""``crosscheck bench``: every LSTM at hand on the same work, timed in turn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosscheck.bench.plan import Plan, make_plan
from crosscheck.bench.result import Result, Row, as_content, from_content
from crosscheck.bench.settings import record, use_threads
from crosscheck.bench.table import COLUMNS, NUMERIC, tables
from crosscheck.bench.words import sentences, settings_line
from crosscheck.commands.common import check_json_file, fail, failures_in_one_line, output, progress
from crosscheck.report.json import write_json

SECONDS, RUNS = 10.0, 50


def bench(
    shape: Annotated[
        list[str] | None, typer.Option(metavar="T,B,D,H", help="Steps, batch, inputs, hidden; may be repeated.")
    ] = None,
    work: Annotated[list[str] | None, typer.Option(help="'forward' or 'training'; both by default.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="This competitor alone; may be repeated. 'jax_lstm unroll=4' is ours, run so."
        ),
    ] = None,
    feature: Annotated[
        str, typer.Option(help="'lengths', 'projection', 'bidirectional' or 'layers' in place of one plain layer.")
    ] = "plain",
    precision: Annotated[
        str, typer.Option(help="'float32', 'tf32', 'bfloat16' or 'float16', on all sides.")
    ] = "float32",
    sweep: Annotated[str | None, typer.Option(help="Follow the cost along 'T', 'H' or 'B'.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="At most so many timed runs of each.")] = RUNS,
    seconds: Annotated[float, typer.Option(help="Time for the runs of each shape and work, together.")] = SECONDS,
    threads: Annotated[int | None, typer.Option(help="Cores for both frameworks; all by default.")] = None,
    list_competitors: Annotated[bool, typer.Option("--list", help="List competitors and shapes, and stop.")] = False,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Print, and draw, the result of an earlier run.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the result into this file.")] = None,
) -> None:
    """Time and memory of jax_lstm beside torch, flax, haiku and equinox, on the same weights and inputs.

    Each competitor is first held to torch.nn.LSTM's results. Then all are timed in turn, one call each a round. Times
    are medians; "to ours" is a time in units of jax_lstm's, and over 1 is slower. Exit code 0: measured, whoever wins;
    1: ours computes something else; 2: could not run.
    """
    check_json_file(json_file)
    _check_plot(plot, json_file)
    if from_file is not None:
        result = _read(from_file)
    else:
        if not 0 < seconds < float("inf"):
            fail(f"--seconds must be over 0; got {seconds}")
        plan = _plan(shape or (), work or (), only or (), feature, precision, sweep, threads)
        if list_competitors:
            _list(plan)
            return
        result = _measure(plan, runs, seconds, json_file)
    _write(result, json_file)
    if plot is not None:
        _draw(result, plot)
    _print(result, output())
    raise typer.Exit(result.exit_code)


def _plan(shapes, kinds, only, feature, precision, sweep, threads) -> Plan:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or torch finds no memory beside JAX
    with failures_in_one_line():
        try:
            if threads is not None:
                use_threads(threads)
            return make_plan(shapes, kinds, only, feature, precision, sweep, threads)
        except ValueError as error:
            fail(str(error))


def _measure(plan: Plan, runs: int, seconds: float, json_file: Path | None) -> Result:
    """All pieces of work; what there is is written after each, since a whole table takes minutes."""
    rows: list[Row] = []
    with failures_in_one_line(), progress() as bar:
        settings = record(plan.precision)
        task = bar.add_task("measuring", total=len(plan.shapes) * len(plan.kinds))
        for more in plan.run(runs, seconds, lambda what: bar.update(task, description=what)):
            rows += more
            bar.update(task, advance=1)
            result = Result(tuple(rows), settings, plan.command, plan.sweep)
            _write(result, json_file)
    return result


def _write(result: Result, json_file: Path | None) -> None:
    if json_file is not None:
        try:
            write_json(json_file, as_content(result))
        except OSError as error:
            fail(f"--json {json_file}: {error.strerror}")


def _read(path: Path) -> Result:
    try:
        return from_content(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        fail(f"--from {path}: {error.strerror}")
    except ValueError as error:
        fail(f"--from {path}: {error}")


def _check_plot(path: Path | None, json_file: Path | None) -> None:
    if path is None:
        return
    if path.suffix != ".png":
        fail(f"--plot {path}: the name must end in .png")
    if path.is_dir() or not os.access(path.parent, os.W_OK) or path == json_file:
        fail(f"--plot {path}: not a file in a folder that can be written to")


def _draw(result: Result, path: Path) -> None:
    from crosscheck.bench.plot import write_png  # drawing is slow to import, and most runs draw nothing

    try:
        write_png(result, path)
    except OSError as error:
        fail(f"--plot {path}: {error.strerror}")
    except ValueError as error:
        fail(f"--plot {path}: {error}")


def _list(plan: Plan) -> None:
    console = output()
    for competitor in plan.competitors:
        console.print(f"{competitor.name:24s} {competitor.description}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"shapes T,B,D,H: {'  '.join(map(str, plan.shapes))}", highlight=False, markup=False, soft_wrap=True)


def _print(result: Result, console: Console) -> None:
    for table in tables(result):
        shown = Table(title=table.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name in COLUMNS:
            shown.add_column(name, no_wrap=bool(name), justify="right" if name in NUMERIC else "left")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
        console.print()
    for line in (settings_line(result), "", *sentences(result)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
