"""The command ``crosscheck``: parses, calls, prints, exits. 0 all as expected, 1 not, 2 could not run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from crosscheck.cases import CASES
from crosscheck.environment import environment
from crosscheck.finding import CouldNotRun, worst
from crosscheck.report.json import as_dict, write_json
from crosscheck.report.table import closing_line, print_table
from crosscheck.suite import run_suite

WIDTH = 140  # at least; on a narrower terminal lines wrap, and nothing is cut
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def standard_suite(
    context: typer.Context,
    case: Annotated[list[str] | None, typer.Option(help="Run only this case; may be repeated.")] = None,
    list_cases: Annotated[bool, typer.Option("--list", help="List the cases and stop.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Run cases in so many processes.")] = min(os.cpu_count() or 1, 4),
) -> None:
    """Cross-check jax_lstm, torch_ref and torch.nn.LSTM: outputs and gradients, in float64 and float32.

    The table goes to stdout, progress to stderr. Exit code 0: all as expected; 1: not; 2: could not run.
    """
    if context.invoked_subcommand is not None:
        return
    output = Console(width=max(WIDTH, Console().width))
    if list_cases:
        for name, known in CASES.items():
            output.print(f"{name:14s} {known.description}", highlight=False, markup=False, soft_wrap=True)
        return
    for name in case or ():
        if name not in CASES:
            fail(f"unknown case {name!r}; known: {', '.join(CASES)}")
    if json_file is not None and (json_file.is_dir() or not os.access(json_file.parent, os.W_OK)):
        fail(f"--json {json_file}: not a file in a folder that can be written to")
    chosen = [CASES[name] for name in dict.fromkeys(case or CASES)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results = []
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"{len(chosen)} cases", total=len(chosen))
            for result in run_suite(chosen, jobs):
                results.append(result)
                progress.update(task, advance=1, description=f"{result[0].name}: {worst(r.outcome for r in result)}")
    except CouldNotRun as error:
        fail(str(error))
    except Exception as error:  # a worker that was killed, a device out of memory: nothing was judged
        fail(f"{type(error).__name__}: {error}")
    results.sort(key=lambda result: list(CASES).index(result[0].name))
    content = as_dict(results, environment())
    if json_file is not None:
        try:
            write_json(json_file, content)
        except OSError as error:
            fail(f"--json {json_file}: {error.strerror}")
    print_table(results, output)
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    output.print(settings + "\n", highlight=False, markup=False)
    output.print(closing_line(results), style="green" if content["ok"] else "red", highlight=False, markup=False)
    raise typer.Exit(0 if content["ok"] else 1)


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    typer.echo(f"crosscheck: {(message.splitlines() or [''])[0]}", err=True)
    raise typer.Exit(2)


def main() -> None:
    app(prog_name="crosscheck")
