"""``crosscheck`` without a subcommand: the standard suite."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer
from rich.console import Console

from crosscheck.commands.common import check_json_file, check_report_folder, write_report, write_results
from crosscheck.commands.failures import fail, failures_in_one_line, names_of
from crosscheck.commands.progress import progress
from crosscheck.core.finding import Outcome
from crosscheck.libraries import STANDARD, implementations_named
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.report.table import closing_line, print_table, print_without
from crosscheck.report.terminal import output, say
from crosscheck.suite.runs import CaseResult, CaseResults, run_suite
from crosscheck.suite.shrinking import reproduction, shrink


def run(
    case: list[str] | None,
    list_cases: bool,
    json_file: Path | None,
    report: Path | None,
    against: list[str] | None,
    shrinking: bool,
    jobs: int,
) -> None:
    """Judge the sides on the cases, print what was found and exit: 0 all as expected, 1 not, 2 could not run."""
    console = output()
    if list_cases:
        for name, known in CASES.items():
            say(console, f"{name:14s} {known.description}")
        return
    cases = names_of("--case", case, "case", list(CASES)) or list(CASES)
    sides = _sides(against)
    check_json_file(json_file)
    check_report_folder(report, json_file)
    chosen = [CASES[name] for name in cases]
    found: list[CaseResults] = []
    with failures_in_one_line(), progress(len(chosen)) as work:
        for result in run_suite(chosen, jobs, sides, begins=work.begins):
            found.append(result)
            work.ends(result.judged[0].name)
    found.sort(key=lambda result: list(CASES).index(result.judged[0].name))
    missing = [entry for result in found for entry in result.without]
    for entry in missing:
        if entry.what != "not supported":
            fail(f"--against {entry.implementation}: {entry.reason}")
    results = [result.judged for result in found]
    content = write_results(json_file, "suite", results)
    named = chosen if len(chosen) < len(CASES) else []
    options = [f"--case {shlex.quote(case.name)}" for case in named]
    options += [f"--against {shlex.quote(','.join(against or ()))}"] * bool(against)
    command = " ".join(["crosscheck", *options])
    write_report(report, results, content["environment"], command)
    print_table(results, console)
    print_without(missing, console)
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    say(console, settings + "\n\n")
    say(console, closing_line(results), "green" if content["ok"] else "red")
    if shrinking and not content["ok"]:
        _print_shrunk(results, console)
    raise typer.Exit(0 if content["ok"] else 1)


def _sides(against: list[str] | None) -> tuple[str, ...]:
    """The names of the sides to judge: ours, and those of --against."""
    if against is None:
        return tuple(STANDARD)
    try:
        return tuple(
            dict.fromkeys(["jax_lstm", *(side.name for side in implementations_named(names_of("--against", against)))])
        )
    except ValueError as error:
        fail(f"--against: {error}")


def _print_shrunk(results: list[list[CaseResult]], console: Console) -> None:
    """The smallest case that still fails, as Python, of the first side that disagrees."""
    bad = (r for case in results for r in case if not r.ok and r.outcome is Outcome.DISAGREE)
    found = ((r, case) for r in bad if isinstance(case := CASES[r.name], RecurrentCase))
    result, whole = next(found, (None, None))
    if result is None or whole is None:
        say(console, "\n--shrink: no recurrent case disagrees")
        return
    with failures_in_one_line(), progress() as work:
        work.begins(f"shrinking {result.name}")
        small = shrink(whole, implementations_named([result.implementation])[0], lambda case: None)
    lines = reproduction(small, result.implementation)
    text = f"\nsmallest case that still fails ({result.name}, {result.implementation}):\n{lines}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)  # Python, which no line break may change
