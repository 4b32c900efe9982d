"""``crosscheck`` without a subcommand: the standard suite."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer
from rich.console import Console

from crosscheck.commands.common import (
    OURS,
    check_json_file,
    check_report_folder,
    implementations_of,
    write_report,
    write_results,
)
from crosscheck.commands.failures import fail, failures_in_one_line, names_of
from crosscheck.commands.progress import show_progress
from crosscheck.core.finding import Outcome
from crosscheck.libraries import STANDARD, implementations_named
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.report.case_report import closing_line, print_cases, print_without
from crosscheck.report.terminal import output, say, say_settings
from crosscheck.suite.runs import Absence, CaseResult, CaseResults, run_suite
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
    """Judge implementations in the cases, print the results and exit."""
    console = output()
    if list_cases:
        for name, known in CASES.items():
            say(console, f"{name:14s} {known.description}")
        return
    cases = [CASES[name] for name in names_of("--case", case, "case", list(CASES)) or CASES]
    others = None if against is None else implementations_of("--against", against)
    implementations = tuple(STANDARD) if others is None else tuple(dict.fromkeys([OURS, *others]))
    check_json_file(json_file)
    check_report_folder(report, json_file)
    done: list[CaseResults] = []
    with failures_in_one_line(), show_progress(len(cases)) as work:
        for result in run_suite(cases, jobs, implementations, begins=work.begins):
            done.append(result)
            work.ends(result.judged[0].name)
    done.sort(key=lambda result: list(CASES).index(result.judged[0].name))
    missing = [entry for result in done for entry in result.without]
    for entry in missing:
        if entry.what is not Absence.NOT_SUPPORTED:
            fail(f"--against {entry.implementation}: {entry.reason}")
    results = [result.judged for result in done]
    content = write_results(json_file, "suite", results)
    named = cases if len(cases) < len(CASES) else []
    options = [f"--case {shlex.quote(case.name)}" for case in named]
    options += [f"--against {shlex.quote(','.join(against or ()))}"] * bool(against)
    write_report(report, results, content["environment"], " ".join(["crosscheck", *options]))
    print_cases(results, console)
    print_without(missing, console)
    say_settings(console, content["environment"])
    say(console, closing_line(results), "green" if content["ok"] else "red")
    if shrinking and not content["ok"]:
        _print_shrunk(results, console)
    raise typer.Exit(0 if content["ok"] else 1)


def _print_shrunk(results: list[list[CaseResult]], console: Console) -> None:
    """Print, as Python, the smallest case that still fails, of the first implementation that disagrees."""
    bad = (r for case in results for r in case if not r.ok and r.outcome is Outcome.DISAGREE)
    recurrent = ((r, case) for r in bad if isinstance(case := CASES[r.name], RecurrentCase))
    result, whole = next(recurrent, (None, None))
    if result is None or whole is None:
        say(console, "\n--shrink: no recurrent case disagrees")
        return
    with failures_in_one_line(), show_progress() as work:
        work.begins(f"shrinking {result.name}")
        small = shrink(whole, implementations_named([result.implementation])[0])
    lines = reproduction(small, result.implementation)
    text = f"\nsmallest case that still fails ({result.name}, {result.implementation}):\n{lines}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)  # Python, which no line break may change
