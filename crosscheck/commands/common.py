"""What commands share: cases and implementations by name, and files that are written whole or not at all."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from crosscheck.commands.failures import fail, failures_in_one_line, names_of
from crosscheck.commands.interrupts import on_interrupt
from crosscheck.commands.progress import show_progress
from crosscheck.core.environment import describe_environment
from crosscheck.core.processes import run_all
from crosscheck.libraries import implementations_named
from crosscheck.lstm.cases import Case
from crosscheck.report import case_report
from crosscheck.report.json import Command, write_json
from crosscheck.suite.runs import CaseResult, CaseResults, run_suite
from jax_lstm._src.files import remove_unfinished

if TYPE_CHECKING:
    from crosscheck.report.page import Page

Result = TypeVar("Result")


def implementations_of(option: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return jax_lstm and the implementations that a list option gives; an unknown one ends the command."""
    try:
        named = implementations_named(names_of(option, given))
    except ValueError as error:
        fail(f"{option}: {error}")
    return tuple(dict.fromkeys([case_report.OURS, *(implementation.name for implementation in named)]))


def run_cases(
    known: Mapping[str, Case], names: Sequence[str], jobs: int, implementations: Sequence[str], explain: bool = True
) -> list[CaseResults]:
    """Return the results of the named cases, or of all, in the order of ``known``; failing ends the command."""
    cases = [known[name] for name in names or known]
    done: list[CaseResults] = []
    with failures_in_one_line(), show_progress(len(cases)) as work:
        for results in run_suite(cases, jobs, implementations, explain=explain, begins=work.begins):
            done.append(results)
            work.ends(results.judged[0].name)
    return sorted(done, key=lambda results: list(known).index(results.judged[0].name))


def results_of(pieces: Mapping[str, Callable[[], Result]], jobs: int) -> list[Result]:
    """Return the result of every piece of work, in the order in which they end; failing ends the command."""
    done: list[Result] = []
    with failures_in_one_line(), show_progress(len(pieces)) as work:
        for name, result in run_all(pieces, jobs, work.begins):
            done.append(result)
            work.ends(name)
    return done


def command_line(name: str, **options: Any) -> str:
    """Return the command line of a subcommand. Options that are None are left out."""
    given = [(option.replace("_", "-"), str(value)) for option, value in options.items() if value is not None]
    return " ".join([f"crosscheck {name}", *(f"--{option} {shlex.quote(value)}" for option, value in given)])


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Any failure within, in making what ``option`` asks for or in writing it, ends the command with one line."""
    with failures_in_one_line(), on_interrupt(remove_unfinished):
        try:
            yield
        except OSError as error:
            fail(f"{option} {path}: {error.strerror or error}")


def write_json_file(path: Path | None, command: Command, content: dict[str, Any]) -> None:
    """Write the file of --json if a path is given; failing ends the command."""
    if path is not None:
        with writing("--json", path):
            write_json(path, command, content)


def write_results(
    path: Path | None, command: Command, results: Sequence[Sequence[CaseResult]], **more: Any
) -> dict[str, Any]:
    """Return the judged cases and what a command adds, and write them to --json if a path is given."""
    content = case_report.to_json(results, describe_environment()) | more
    write_json_file(path, command, content)
    return content


def write_report(
    folder: Path | None, results: Sequence[Sequence[CaseResult]], settings: dict[str, Any], command: str
) -> None:
    """Write the page of --report if a folder is given; failing ends the command."""
    if folder is not None:
        from crosscheck.report.suite_page import cases_page  # drawing is slow to import, and most runs draw nothing

        write_page_of(lambda: cases_page(results, settings, command), folder)


def write_page_of(make: Callable[[], Page], folder: Path) -> None:
    """Write the page that ``make`` returns, with the date, into the folder of --report; failing ends the command."""
    from crosscheck.report.page import write_page

    with writing("--report", folder):
        file = write_page(replace(make(), date=datetime.now(UTC)), folder)
    typer.echo(f"report: {file}", err=True)


def check_json_file(path: Path | None) -> None:
    """End the command before any work if --json cannot be written."""
    if path is not None:
        _check_file("--json", path)


def check_plot_file(path: Path | None, json_file: Path | None = None) -> None:
    """End the command before any work if --plot cannot be written."""
    if path is None:
        return
    import_module("crosscheck.report.png")  # a package that is missing ends the command here, before any work
    if path.suffix != ".png":
        fail(f"--plot {path}: the name must end in .png")
    if json_file is not None and path.resolve() == json_file.resolve():
        fail(f"--plot {path}: that is the file of --json")
    _check_file("--plot", path)


def _check_file(option: str, path: Path) -> None:
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        fail(f"{option} {path}: not a file in a folder that can be written to")


def check_report_folder(path: Path | None, json_file: Path | None = None) -> None:
    """End the command before any work if --report cannot be written. The folder itself may not exist yet."""
    if path is None:
        return
    import_module("crosscheck.report.page")
    if json_file is not None and json_file.absolute() == (path / "index.html").absolute():
        fail(f"--json {json_file}: that is the page of --report")
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists() or folder.is_symlink())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK) or (path / "index.html").is_dir():
        fail(f"--report {path}: not a folder that can be made and written to")
