"""``crosscheck matrix``: every LSTM that is installed, held to the same truth on the same weights."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosscheck.commands.common import check_json_file, fail, failures_in_one_line, output, progress, write_json_file
from crosscheck.environment import environment
from crosscheck.finding import FLOAT32, FLOAT64, Check, Outcome, worst
from crosscheck.matrix import ALL, Part, disagreements, matrix_cases, outputs, part
from crosscheck.problem import is_gradient
from crosscheck.report.content import as_dict
from crosscheck.report.table import STYLE, print_without
from crosscheck.report.text import finding_text
from crosscheck.sides import choose
from crosscheck.suite import CaseResult, CaseResults, overall, run_suite

OURS = "jax_lstm"
MARKS = {Outcome.AGREE: "", Outcome.DISAGREE: "!", Outcome.VACUOUS: "v", Outcome.INCONCLUSIVE: "?"}
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
LEGEND = """\
Each entry: outputs / gradients, the largest error in units of its limit; 1 is the most that rounding explains.
!  disagrees     v  nothing to compare (expected of a control)     ?  not decided     -  not supported
=  cannot fail here: it is the truth itself, or its own float32 error makes the limit     empty  no such result"""


def matrix(
    only: Annotated[str | None, typer.Option(metavar="NAME[,NAME...]", help="These sides beside jax_lstm.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Only this case; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Run cases in so many processes.")] = min(os.cpu_count() or 1, 4),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
) -> None:
    """Every side against float64 truth on every case that it supports: ours, torch's paths and other libraries'.

    One table a lane, a column a side, errors in units of their limits, outputs and gradients apart. Other libraries'
    weights come by jax_lstm.convert. Their disagreements are a result and no failure. Exit code 0: jax_lstm is as
    expected everywhere; 1: it is not; 2: could not run.
    """
    sides, cases = _sides(only), matrix_cases()
    for name in case or ():
        if name not in cases:
            fail(f"unknown case {name!r}; known: {', '.join(cases)}")
    check_json_file(json_file)
    chosen = [cases[name] for name in dict.fromkeys(case or cases)]
    found: list[CaseResults] = []
    with failures_in_one_line(), progress() as bar:
        task = bar.add_task(f"{len(chosen)} cases", total=len(chosen))
        for results in run_suite(chosen, jobs, sides, explain=False):
            judged = [replace(result, reproduce=_command(result)) for result in results.judged]
            found.append(replace(results, judged=judged))
            bar.update(task, advance=1, description=results.judged[0].name)
    found.sort(key=lambda results: list(cases).index(results.judged[0].name))
    ours = [result for results in found for result in results.judged if result.side == OURS]
    content = _content(found, ours, sides)
    write_json_file(json_file, "matrix", content)
    _print(found, sides, content, output())
    raise typer.Exit(0 if content["ok"] else 1)


def _command(result: CaseResult) -> str:
    return f"crosscheck matrix --only {result.side} --case {result.name}"


def _sides(only: str | None) -> tuple[str, ...]:
    try:
        asked = ALL if only is None else [side.name for side in choose(only.split(","))]
    except ValueError as error:
        fail(f"--only: {error}")
    return tuple(dict.fromkeys([OURS, *asked]))


def _content(found: Sequence[CaseResults], ours: Sequence[CaseResult], sides: Sequence[str]) -> dict[str, Any]:
    """``ok`` and ``verdict`` are ours; every other side's are its cases'."""
    content = as_dict([results.judged for results in found], environment() | _versions(sides))
    content["ok"] = all(result.ok for result in ours)
    content["verdict"] = str(overall(ours))
    content["without"] = [
        {"name": entry.name, "side": entry.side, "what": entry.what, "reason": entry.reason}
        for results in found
        for entry in results.without
    ]
    return content


def _versions(sides: Sequence[str]) -> dict[str, str]:
    known = {}
    for package in dict.fromkeys(side.package for side in choose(sides) if side.package):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    return known


def _print(found: Sequence[CaseResults], sides: Sequence[str], content: dict[str, Any], console: Console) -> None:
    console.width = max(console.width, 16 + 13 * len(sides))  # a column a side, and nothing cut
    for check in (FLOAT64, FLOAT32):
        console.print(_table(check, found, sides))
        console.print()
    console.print(LEGEND + "\n", **PLAIN)
    print_without([entry for results in found for entry in results.without], console)
    for side, bad in disagreements(found).items():
        names = ", ".join(result.name for result in bad)
        console.print(f"{side} is not as expected in {len(bad)} of {len(found)} cases: {names}", style="red", **PLAIN)
        if bad[0].verdict.first is not None:
            console.print(f"  {bad[0].name}: {finding_text(bad[0].verdict.first)}\n", **PLAIN)
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    console.print(settings + "\n", **PLAIN)
    judged = sum(len(results.judged) for results in found)
    line = f"{len(found)} cases, {len(sides)} sides, {judged} verdicts; {OURS}: {content['verdict']}"
    console.print(line, style="green" if content["ok"] else "red", **PLAIN)


def _table(check: Check, found: Sequence[CaseResults], sides: Sequence[str]) -> Table:
    title = f"{check.dtype}: error / limit"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("case", no_wrap=True)
    for side in sides:
        table.add_column("\n".join(re.split(r"[./]", side)), no_wrap=True)
    for results in found:
        row = {result.side: _entry(result, check) for result in results.judged}
        row |= {e.side: Text("-" if e.what == "not supported" else e.what, "dim") for e in results.without}
        table.add_row(results.judged[0].name, *(row[side] for side in sides))
    return table


def _entry(result: CaseResult, check: Check) -> Text:
    parts = [found for of in (outputs, is_gradient) if (found := part(result, check, of)) is not None]
    if not parts:
        is_truth = check.dtype in choose([result.side])[0].dtypes  # it computes in it, and was not judged
        return Text("=" if is_truth else "")
    words = "/".join(map(_figure, parts))
    expected = all(found.outcome in (Outcome.AGREE, result.expected) for found in parts)
    return Text(words, "green" if expected else STYLE[worst(found.outcome for found in parts)])


def _figure(found: Part) -> str:
    if found.own:
        return "="
    if found.ratio is None:
        return MARKS[found.outcome] or "-"
    figure = f"{found.ratio:.2f}" if found.ratio < 10 else f"{found.ratio:.0e}".replace("e+", "e")
    return figure + MARKS[found.outcome]
