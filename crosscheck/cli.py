"""The command ``crosscheck``: parses, calls, prints, exits. 0 all as expected, 1 not, 2 could not run."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from crosscheck.cases import CASES, RecurrentCase
from crosscheck.commands.bench import bench
from crosscheck.commands.checkpoint import checkpoint
from crosscheck.commands.common import (
    check_json_file,
    check_report_folder,
    fail,
    failures_in_one_line,
    output,
    progress,
    write_report,
    write_results,
)
from crosscheck.commands.faults import faults
from crosscheck.commands.gradient_flow import gradient_flow
from crosscheck.commands.gradients import gradients
from crosscheck.commands.matrix import matrix
from crosscheck.commands.notebook import notebook
from crosscheck.commands.train import train
from crosscheck.finding import Outcome, worst
from crosscheck.report.table import closing_line, print_table, print_without
from crosscheck.shrink import reproduction, shrink
from crosscheck.sides import SIDES, choose
from crosscheck.suite import CaseResult, CaseResults, run_suite

INTERRUPTED = 130
USAGE_ERROR = cast(type[Exception], typer.BadParameter.__bases__[0])  # typer has no name of its own for it
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def standard_suite(
    context: typer.Context,
    case: Annotated[list[str] | None, typer.Option(help="Run only this case; may be repeated.")] = None,
    list_cases: Annotated[bool, typer.Option("--list", help="List the cases and stop.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with every curve and limit to DIR/index.html.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME...]",
            help="Judge jax_lstm and these sides: torch_ref and torch.nn.LSTM (the default), flax, haiku, equinox, "
            "keras, onnxruntime; `crosscheck matrix` has all of them.",
        ),
    ] = None,
    shrinking: Annotated[
        bool, typer.Option("--shrink", help="Reduce a failing case to the smallest one that still fails.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Run cases in so many processes.")] = min(os.cpu_count() or 1, 4),
) -> None:
    """Cross-check jax_lstm, torch_ref and torch.nn.LSTM: outputs and gradients, in float64 and float32.

    The table goes to stdout, progress to stderr. Exit code 0: all as expected; 1: not; 2: could not run.
    """
    if context.invoked_subcommand is not None:
        given: dict[str, object] = {"--case": case, "--list": list_cases, "--json": json_file, "--report": report}
        given |= {"--against": against, "--shrink": shrinking}
        for option in (name for name, value in given.items() if value):
            fail(f"{option} stands before {context.invoked_subcommand!r}; write it after, if that has it")
        return
    console = output()
    if list_cases:
        for name, known in CASES.items():
            console.print(f"{name:14s} {known.description}", highlight=False, markup=False, soft_wrap=True)
        return
    for name in case or ():
        if name not in CASES:
            fail(f"unknown case {name!r}; known: {', '.join(CASES)}")
    sides = _sides(against)
    check_json_file(json_file)
    check_report_folder(report, json_file)
    chosen = [CASES[name] for name in dict.fromkeys(case or CASES)]
    found: list[CaseResults] = []
    with failures_in_one_line(), progress() as bar:
        task = bar.add_task(f"{len(chosen)} cases", total=len(chosen))
        for result in run_suite(chosen, jobs, sides):
            found.append(result)
            outcome = worst(r.outcome for r in result.judged)
            bar.update(task, advance=1, description=f"{result.judged[0].name}: {outcome}")
    found.sort(key=lambda result: list(CASES).index(result.judged[0].name))
    missing = [entry for result in found for entry in result.without]
    for entry in missing:
        if entry.what != "not supported":
            fail(f"--against {entry.side}: {entry.reason}")
    results = [result.judged for result in found]
    content = write_results(json_file, "suite", results)
    named = chosen if len(chosen) < len(CASES) else []
    options = [f"--case {shlex.quote(case.name)}" for case in named] + [f"--against {against}"] * bool(against)
    command = " ".join(["crosscheck", *options])
    write_report(report, results, content["environment"], command)
    print_table(results, console)
    print_without(missing, console)
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    console.print(settings + "\n", highlight=False, markup=False)
    console.print(closing_line(results), style="green" if content["ok"] else "red", highlight=False, markup=False)
    if shrinking and not content["ok"]:
        _print_shrunk(results, console)
    raise typer.Exit(0 if content["ok"] else 1)


def _sides(against: str | None) -> tuple[str, ...]:
    """The names of the sides to judge: ours, and those of --against."""
    if against is None:
        return tuple(SIDES)
    try:
        return tuple(dict.fromkeys(["jax_lstm", *(side.name for side in choose(against.split(",")))]))
    except ValueError as error:
        fail(f"--against: {error}")


def _print_shrunk(results: list[list[CaseResult]], console: Console) -> None:
    """The smallest case that still fails, as Python, of the first side that disagrees."""
    bad = (r for case in results for r in case if not r.ok and r.outcome is Outcome.DISAGREE)
    found = ((r, case) for r in bad if isinstance(case := CASES[r.name], RecurrentCase))
    result, whole = next(found, (None, None))
    if result is None or whole is None:
        console.print("\n--shrink: no recurrent case disagrees", highlight=False)
        return
    with failures_in_one_line(), progress() as bar:
        task = bar.add_task(f"shrinking {result.name}", total=None)
        small = shrink(whole, choose([result.side])[0], lambda case: bar.update(task, advance=1))
    text = f"\nsmallest case that still fails ({result.name}, side {result.side}):\n{reproduction(small, result.side)}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


for command in (bench, checkpoint, faults, gradient_flow, gradients, matrix, notebook, train):
    app.command()(command)


def main() -> None:
    """A reader that has had enough, such as head, ends us quietly; an output that cannot be written is one line."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        code = app(prog_name="crosscheck", standalone_mode=False)
    except USAGE_ERROR as error:
        typer.echo(f"crosscheck: {' '.join(error.format_message().split())}", err=True)  # type: ignore[attr-defined]
        raise SystemExit(2) from None
    except (typer.Abort, KeyboardInterrupt):  # at once: threads of the frameworks may not end in order
        os._exit(INTERRUPTED)
    except OSError as error:
        typer.echo(f"crosscheck: {error.strerror or error}", err=True)
        os._exit(2)
    raise SystemExit(code)
