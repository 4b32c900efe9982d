"""What ``python -m benchmarks`` does: plan, measure or read a result, print it and exit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console

from benchmarks.conclusions import sentences, settings_line
from benchmarks.markdown import KIND, as_markdown, training_of
from benchmarks.options import KINDS, Options
from benchmarks.plan import Plan, make_plan
from benchmarks.result import TORCH, Result, as_content, from_content
from benchmarks.settings import use_threads
from benchmarks.table import tables
from crosscheck.commands.common import check_json_file, check_plot_file, write_json_file, writing
from crosscheck.commands.failures import fail, failures_in_one_line, names_of
from crosscheck.commands.interrupts import on_interrupt
from crosscheck.commands.progress import show_progress
from crosscheck.report.json import read_json
from crosscheck.report.terminal import output, say, show
from jax_lstm._src.files import remove_unfinished


def run(
    options: Options,
    list_implementations: bool,
    from_file: Path | None,
    brief: bool,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Measure, or read an earlier result. Then print it and exit."""
    check_json_file(json_file)
    check_plot_file(plot, json_file)
    work, only = names_of("--work", options.work, "work", KINDS), names_of("--only", options.only)
    options = replace(options, work=tuple(work), only=tuple(only))
    if from_file is not None:
        more = [name for name, _ in options.given] + ["--list"] * list_implementations
        if more:
            fail(f"--from prints an earlier run as it was measured; leave {more[0]} out")
        result = _read(from_file)
        write_json_file(json_file, "bench", as_content(result))
    else:
        plan = _plan(options, brief and not list_implementations)
        if list_implementations:
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
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes all memory, and torch finds none
    with failures_in_one_line():
        try:
            if options.threads is not None:
                use_threads(options.threads)
            plan = make_plan(options)
        except ValueError as error:
            fail(str(error))
    if brief and not (KIND in plan.kinds and TORCH in {each.name for each in plan.implementations}):
        fail(f"--brief is about {KIND} beside {TORCH}; leave --work and --only out, or name these too")
    return plan


def _measure(plan: Plan, json_file: Path | None) -> Result:
    """Measure all pieces of work. The file is written after each of them, since all together take minutes."""
    with failures_in_one_line(), on_interrupt(remove_unfinished), show_progress(plan.pieces) as work:
        work.begins("settings")
        for result in plan.run(work.does):
            work.does("writing", advance=1)
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
    from benchmarks.plot import write_png  # slow to import, and most runs draw nothing

    with writing("--plot", path):
        try:
            write_png(result, path)
        except ValueError as error:
            fail(f"--plot {path}: {error}")


def _list(plan: Plan) -> None:
    console = output()
    for implementation in plan.implementations:
        say(console, f"{implementation.name:24s} {implementation.description}")
    say(console, f"shapes T,B,D,H: {'  '.join(map(str, plan.shapes))}")


def _print(result: Result, console: Console) -> None:
    for table in tables(result):
        show(console, table)
    for line in (settings_line(result), "", *sentences(result)):
        say(console, line)


def _print_brief(result: Result, plot: Path | None, console: Console) -> None:
    try:
        text, training = as_markdown(result), training_of(result)
    except ValueError as error:
        fail(f"--brief: {error}")
    _draw(training, plot)
    console.print(text, highlight=False, markup=False, soft_wrap=True)  # a line break would change Markdown
