"""``crosscheck`` without a subcommand: the standard suite."""

from __future__ import annotations

import shlex

from rich.console import Console

from crosscheck.commands.cli.options import Suite
from crosscheck.commands.common import (
    check_json_file,
    check_report_folder,
    implementations_of,
    run_cases,
    write_report,
    write_results,
)
from crosscheck.commands.failures import fail, failures_in_one_line, names_of
from crosscheck.commands.progress import show_progress
from crosscheck.core.finding import Outcome
from crosscheck.libraries import implementations_named
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.report.case_report import closing_line, print_cases, print_without, without_to_json
from crosscheck.report.terminal import output, say, say_settings
from crosscheck.suite.runs import SUITE, Absence, CaseResult
from crosscheck.suite.shrinking import reproduction, shrink


def run(options: Suite) -> bool:
    """Judge implementations in the cases, print the results and return whether all are as expected."""
    console = output()
    if options.list_cases:
        for name, known in CASES.items():
            say(console, f"{name:14s} {known.description}")
        return True
    names = names_of("--case", options.case, "case", list(CASES))
    implementations = SUITE if options.against is None else implementations_of("--against", options.against)
    check_json_file(options.json_file)
    check_report_folder(options.report, options.json_file)
    done = run_cases(CASES, names, options.jobs, implementations)
    missing = [entry for result in done for entry in result.without]
    for entry in missing:
        if options.against is not None and entry.what is not Absence.NOT_SUPPORTED:
            fail(f"--against {entry.implementation}: {entry.reason}")
    results = [result.judged for result in done]
    content = write_results(options.json_file, "suite", results, without=without_to_json(missing))
    words = ["crosscheck", *(f"--case {shlex.quote(name)}" for name in names if len(names) < len(CASES))]
    words += [f"--against {shlex.quote(','.join(options.against))}"] if options.against else []
    write_report(options.report, results, content["environment"], " ".join(words))
    print_cases(results, console)
    print_without(missing, console)
    say_settings(console, content["environment"])
    say(console, closing_line(results), "green" if content["ok"] else "red")
    if options.shrinking and not content["ok"]:
        _print_shrunk(results, console)
    return content["ok"]


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
