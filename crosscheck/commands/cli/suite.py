"""``crosscheck`` without a subcommand: the options of the standard suite."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from crosscheck.commands.cli.choices import CASES, IMPLEMENTATIONS
from crosscheck.commands.cli.options import JOBS, Jobs, JsonFile, ReportFolder, list_of
from crosscheck.commands.failures import fail
from crosscheck.commands.progress import loading

VERSIONS = ("jax", "flax", "torch")


def print_versions(asked: bool) -> None:
    """Print the installed versions and stop. This imports nothing."""
    if asked:
        beside = ", ".join(f"{name} {_version(name)}" for name in VERSIONS)
        typer.echo(f"jax-lstm {_version('jax-lstm')} ({beside})")
        raise typer.Exit


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def standard_suite(
    context: typer.Context,
    case: Annotated[list[str] | None, list_of(CASES, "Run only these cases")] = None,
    list_cases: Annotated[bool, typer.Option("--list", help="List the cases and stop.")] = False,
    json_file: JsonFile = None,
    report: ReportFolder = None,
    against: Annotated[
        list[str] | None,
        list_of(
            IMPLEMENTATIONS,
            "Judge jax_lstm and these implementations, not torch_ref and torch.nn.LSTM; "
            "flax stands for all that begin with it",
        ),
    ] = None,
    shrinking: Annotated[
        bool, typer.Option("--shrink", help="Reduce a failing case to the smallest one that still fails.")
    ] = False,
    jobs: Jobs = JOBS,
    versions: Annotated[
        bool,
        typer.Option("--version", callback=print_versions, is_eager=True, help="Print the versions and stop."),
    ] = False,
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
    with loading():
        from crosscheck.commands.suite import run
    run(case, list_cases, json_file, report, against, shrinking, jobs)
