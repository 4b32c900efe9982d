"""``crosscheck matrix``: every LSTM that is installed, held to the same truth on the same weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosscheck.commands.common import check_json_file, write_json_file
from crosscheck.commands.failures import fail, failures_in_one_line, names_of
from crosscheck.commands.progress import progress
from crosscheck.core.environment import describe_environment
from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Outcome, worst
from crosscheck.core.verdict_text import finding_text
from crosscheck.libraries import implementations_named
from crosscheck.report.content import as_dict
from crosscheck.report.table import STYLE, print_without
from crosscheck.report.terminal import new_table, output, say, show
from crosscheck.suite.matrix import ALL, Entry, matrix_cases, matrix_entry, unexpected
from crosscheck.suite.runs import CaseResult, CaseResults, overall, run_suite

OURS = "jax_lstm"
MARKS = {Outcome.AGREE: "", Outcome.DISAGREE: "!", Outcome.VACUOUS: "v", Outcome.INCONCLUSIVE: "?"}
LEGEND = """\
Each entry: outputs / gradients, the largest error in units of its limit; 1 is the most that rounding explains.
!  disagrees     v  nothing to compare (expected of a control)     ?  not decided     -  not supported
=  cannot fail here: it is the truth itself, or its own float32 error makes the limit     empty  no such result"""


def run(only: list[str] | None, case: list[str] | None, jobs: int, json_file: Path | None) -> None:
    """Judge every side on every case, print both tables and exit."""
    sides, cases = _sides(only), matrix_cases()
    chosen = [cases[name] for name in names_of("--case", case, "case", list(cases)) or cases]
    check_json_file(json_file)
    found: list[CaseResults] = []
    with failures_in_one_line(), progress(len(chosen)) as work:
        for results in run_suite(chosen, jobs, sides, explain=False, begins=work.begins):
            judged = [replace(result, reproduce=_command(result)) for result in results.judged]
            found.append(replace(results, judged=judged))
            work.ends(results.judged[0].name)
    found.sort(key=lambda results: list(cases).index(results.judged[0].name))
    ours = [result for results in found for result in results.judged if result.implementation == OURS]
    content = _content(found, ours, sides)
    write_json_file(json_file, "matrix", content)
    _print(found, sides, content, output())
    raise typer.Exit(0 if content["ok"] else 1)


def _command(result: CaseResult) -> str:
    return f"crosscheck matrix --only {result.implementation} --case {result.name}"


def _sides(only: list[str] | None) -> tuple[str, ...]:
    try:
        asked = ALL if only is None else [side.name for side in implementations_named(names_of("--only", only))]
    except ValueError as error:
        fail(f"--only: {error}")
    return tuple(dict.fromkeys([OURS, *asked]))


def _content(found: Sequence[CaseResults], ours: Sequence[CaseResult], sides: Sequence[str]) -> dict[str, Any]:
    """``ok`` and ``verdict`` are ours; every other side's are its cases'."""
    content = as_dict([results.judged for results in found], describe_environment() | _versions(sides))
    content["ok"] = all(result.ok for result in ours)
    content["verdict"] = str(overall(ours))
    content["without"] = [
        {"name": entry.name, "implementation": entry.implementation, "what": entry.what, "reason": entry.reason}
        for results in found
        for entry in results.without
    ]
    return content


def _versions(sides: Sequence[str]) -> dict[str, str]:
    known = {}
    for package in dict.fromkeys(side.package for side in implementations_named(sides) if side.package):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    return known


def _print(found: Sequence[CaseResults], sides: Sequence[str], content: dict[str, Any], console: Console) -> None:
    for check in (FLOAT64, FLOAT32):
        show(console, _table(check, found, sides), f"{check.dtype}: error / limit")
    say(console, LEGEND + "\n\n")
    print_without([entry for results in found for entry in results.without], console)
    for side, bad in unexpected(found).items():
        names = ", ".join(result.name for result in bad)
        say(console, f"{side} is not as expected in {len(bad)} of {len(found)} cases: {names}", "red")
        if bad[0].verdict.first is not None:
            say(console, f"  {bad[0].name}: {finding_text(bad[0].verdict.first)}\n\n")
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    say(console, settings + "\n\n")
    judged = sum(len(results.judged) for results in found)
    line = f"{len(found)} cases, {len(sides)} sides, {judged} verdicts; {OURS}: {content['verdict']}"
    say(console, line, "green" if content["ok"] else "red")


def _table(check: Check, found: Sequence[CaseResults], sides: Sequence[str]) -> Table:
    table = new_table(["case", *("\n".join(re.split(r"[./]", side)) for side in sides)])
    for results in found:
        row = {result.implementation: _entry(result, check) for result in results.judged}
        row |= {e.implementation: Text("-" if e.what == "not supported" else e.what, "dim") for e in results.without}
        table.add_row(results.judged[0].name, *(row[side] for side in sides))
    return table


def _entry(result: CaseResult, check: Check) -> Text:
    parts = [entry for gradients in (False, True) if (entry := matrix_entry(result, check, gradients)) is not None]
    if not parts:
        is_truth = (
            check.dtype in implementations_named([result.implementation])[0].dtypes
        )  # it computes in it, and was not judged
        return Text("=" if is_truth else "")
    words = "/".join(map(_figure, parts))
    expected = all(found.outcome in (Outcome.AGREE, result.expected) for found in parts)
    return Text(words, "green" if expected else STYLE[worst(found.outcome for found in parts)])


def _figure(found: Entry) -> str:
    if found.own_limit:
        return "="
    if found.ratio is None:
        return MARKS[found.outcome] or "-"
    figure = f"{found.ratio:.2f}" if found.ratio < 10 else f"{found.ratio:.0e}".replace("e+", "e")
    return figure + MARKS[found.outcome]
