"""``crosscheck matrix``: every LSTM that is installed, against the same truth on the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from crosscheck.commands.common import OURS, check_json_file, implementations_of, write_json_file
from crosscheck.commands.failures import failures_in_one_line, names_of
from crosscheck.commands.progress import show_progress
from crosscheck.core.environment import describe_environment
from crosscheck.report import matrix_report
from crosscheck.report.terminal import output
from crosscheck.suite.matrix import ALL, matrix_cases
from crosscheck.suite.runs import CaseResult, CaseResults, run_suite


def run(only: list[str] | None, case: list[str] | None, jobs: int, json_file: Path | None) -> None:
    """Judge every implementation in every case, print both tables and exit."""
    known = matrix_cases()
    implementations = tuple(dict.fromkeys([OURS, *(ALL if only is None else implementations_of("--only", only))]))
    cases = [known[name] for name in names_of("--case", case, "case", list(known)) or known]
    check_json_file(json_file)
    results: list[CaseResults] = []
    with failures_in_one_line(), show_progress(len(cases)) as work:
        for done in run_suite(cases, jobs, implementations, explain=False, begins=work.begins):
            judged = [replace(result, reproduce=_command(result)) for result in done.judged]
            results.append(replace(done, judged=judged))
            work.ends(done.judged[0].name)
    results.sort(key=lambda done: list(known).index(done.judged[0].name))
    content = matrix_report.to_json(results, implementations, describe_environment())
    write_json_file(json_file, "matrix", content)
    matrix_report.print_matrix(results, implementations, content, output())
    raise typer.Exit(0 if content["ok"] else 1)


def _command(result: CaseResult) -> str:
    return f"crosscheck matrix --only {result.implementation} --case {result.name}"
