"""``crosscheck bench``: every LSTM at hand on the same work, timed in turn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crosscheck.bench.brief import KIND, as_markdown, training_of
from crosscheck.bench.options import Options
from crosscheck.bench.plan import Plan, make_plan
from crosscheck.bench.result import TORCH, Result, Row, as_content, from_content
from crosscheck.bench.settings import record, use_threads
from crosscheck.bench.table import COLUMNS, NUMERIC, tables
from crosscheck.bench.words import sentences, settings_line
from crosscheck.commands.common import (
    check_json_file,
    check_plot_file,
    fail,
    failures_in_one_line,
    output,
    progress,
    show_table,
    write_json_file,
    writing,
)
from crosscheck.report.json import read_json

DEFAULT = Options()


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
    ] = DEFAULT.feature,
    precision: Annotated[
        str, typer.Option(help="'float32', 'tf32', 'bfloat16' or 'float16', on all sides.")
    ] = DEFAULT.precision,
    sweep: Annotated[str | None, typer.Option(help="Follow the cost along 'T', 'H' or 'B'.")] = None,
    runs: Annotated[int, typer.Option(help="At most so many timed runs of each.")] = DEFAULT.runs,
    seconds: Annotated[float, typer.Option(help="For the runs of each shape and work, together.")] = DEFAULT.seconds,
    threads: Annotated[int | None, typer.Option(help="Cores for both frameworks; all by default.")] = None,
    list_competitors: Annotated[bool, typer.Option("--list", help="List competitors and shapes, and stop.")] = False,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Print, and draw, the result of an earlier run.")
    ] = None,
    brief: Annotated[
        bool,
        typer.Option(
            "--brief",
            help="Training alone, in units of torch.nn.LSTM's time, as a small table in Markdown; --plot alike.",
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the result into this file.")] = None,
) -> None:
    """Time and memory of jax_lstm beside torch, flax, haiku and equinox, on the same weights and inputs.

    Each competitor is first held to torch.nn.LSTM's results. Then all are timed in turn, one call each a round. Times
    are medians; "to ours" is a time in units of jax_lstm's, and over 1 is slower. Exit code 0: measured, whoever wins;
    1: ours computes something else; 2: could not run.
    """
    check_json_file(json_file)
    check_plot_file(plot, json_file)
    options = Options(
        shape=tuple(shape or ()),
        work=tuple(work or ()),
        only=tuple(only or ()),
        feature=feature,
        precision=precision,
        sweep=sweep,
        runs=runs,
        seconds=seconds,
        threads=threads,
    )
    if from_file is not None:
        more = [name for name, _ in options.given] + ["--list"] * list_competitors
        if more:
            fail(f"--from prints an earlier run as it was measured; leave {more[0]} out")
        result = _read(from_file)
        write_json_file(json_file, "bench", as_content(result))
    else:
        plan = _plan(options, brief and not list_competitors)
        if list_competitors:
            _list(plan)
            return
        result = _measure(plan, json_file)
    if brief:
        _print_brief(result, plot, output())
    else:
        _draw(result, plot)
        _print(result, output())
    raise typer.Exit(result.exit_code)


def _plan(options: Options, brief: bool) -> Plan:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or torch finds no memory beside JAX
    with failures_in_one_line():
        try:
            if options.threads is not None:
                use_threads(options.threads)
            plan = make_plan(options)
        except ValueError as error:
            fail(str(error))
    if brief and (KIND not in plan.kinds or TORCH not in [competitor.name for competitor in plan.competitors]):
        fail(f"--brief is about {KIND} beside {TORCH}; leave --work and --only out, or name these too")
    return plan


def _measure(plan: Plan, json_file: Path | None) -> Result:
    """All pieces of work; what there is is written after each, since a whole table takes minutes."""
    rows: list[Row] = []
    with failures_in_one_line(), progress() as bar:
        settings = record(plan.options.precision)
        task = bar.add_task("measuring", total=len(plan.shapes) * len(plan.kinds))
        for more in plan.run(lambda what: bar.update(task, description=what)):
            rows += more
            bar.update(task, advance=1)
            result = Result(tuple(rows), settings, plan.options.command, plan.options.sweep or "")
            write_json_file(json_file, "bench", as_content(result))
    return result


def _read(path: Path) -> Result:
    try:
        return from_content(read_json(path, "bench"))
    except OSError as error:
        fail(f"--from {path}: {error.strerror}")
    except ValueError as error:
        fail(f"--from {path}: {error}")


def _draw(result: Result, path: Path | None) -> None:
    if path is None:
        return
    from crosscheck.bench.plot import write_png  # drawing is slow to import, and most runs draw nothing

    with writing("--plot", path):
        try:
            write_png(result, path)
        except ValueError as error:
            fail(f"--plot {path}: {error}")


def _list(plan: Plan) -> None:
    console = output()
    for competitor in plan.competitors:
        console.print(f"{competitor.name:24s} {competitor.description}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"shapes T,B,D,H: {'  '.join(map(str, plan.shapes))}", highlight=False, markup=False, soft_wrap=True)


def _print(result: Result, console: Console) -> None:
    for table in tables(result):
        show_table(console, table.title, COLUMNS, table.rows, NUMERIC)
    for line in (settings_line(result), "", *sentences(result)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_brief(result: Result, plot: Path | None, console: Console) -> None:
    try:
        text, drawn = as_markdown(result), training_of(result)
    except ValueError as error:
        fail(f"--brief: {error}")
    _draw(drawn, plot)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
