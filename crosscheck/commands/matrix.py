"""``crosscheck matrix``: every LSTM that is installed, against the same truth on the same weights."""

from __future__ import annotations

import shlex
from dataclasses import replace

from crosscheck.commands.cli.options import Matrix
from crosscheck.commands.common import check_json_file, implementations_of, run_cases, write_json_file
from crosscheck.commands.failures import names_of
from crosscheck.core.environment import describe_environment
from crosscheck.report import matrix_report
from crosscheck.report.terminal import output
from crosscheck.suite.matrix import ALL, matrix_cases
from crosscheck.suite.runs import CaseResult


def run(options: Matrix) -> bool:
    """Judge every implementation in every case, print both tables and return whether ours is as expected."""
    known = matrix_cases()
    implementations = ALL if options.only is None else implementations_of("--only", options.only)
    names = names_of("--case", options.case, "case", list(known))
    check_json_file(options.json_file)
    done = run_cases(known, names, options.jobs, implementations, explain=False)
    results = [replace(case, judged=[_reproducible(result) for result in case.judged]) for case in done]
    content = matrix_report.to_json(results, implementations, describe_environment())
    write_json_file(options.json_file, "matrix", content)
    matrix_report.print_matrix(results, implementations, content, output())
    return content["ok"]


def _reproducible(result: CaseResult) -> CaseResult:
    only = shlex.quote(result.implementation)
    return replace(result, reproduce=f"crosscheck matrix --only {only} --case {result.name}")
