"""All implementations in all cases: tables and JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Outcome, worst
from crosscheck.core.missing import installed_version
from crosscheck.core.verdict_text import finding_text
from crosscheck.libraries import BACKENDS, implementations_named
from crosscheck.report import case_report
from crosscheck.report.case_report import OURS, print_without, without_to_json
from crosscheck.report.table import TONES, Cell, Table
from crosscheck.report.terminal import say, say_settings, show
from crosscheck.suite.matrix import Entry, matrix_entry, unexpected
from crosscheck.suite.runs import Absence, CaseResult, CaseResults, NoResult, overall

MARKS = {Outcome.AGREE: "", Outcome.DISAGREE: "!", Outcome.VACUOUS: "v", Outcome.INCONCLUSIVE: "?"}
LEGEND = """\
Each entry: outputs / gradients, the largest error in units of its limit; 1 is the most that rounding explains.
!  disagrees     v  nothing to compare (expected of a control)     ?  not decided     -  not supported
=  cannot fail here: it is the truth itself, or its own float32 error makes the limit     empty  no such result"""


def to_json(
    results: Sequence[CaseResults], implementations: Sequence[str], environment: dict[str, Any]
) -> dict[str, Any]:
    """Return all results. ``ok`` and ``verdict`` are about jax_lstm and its backends; every case has its own."""
    content = case_report.to_json([case.judged for case in results], environment | _versions(implementations))
    ours = [result for case in results for result in case.judged if result.implementation in (OURS, *BACKENDS)]
    return content | {
        "ok": all(result.ok for result in ours),
        "verdict": str(overall(ours)),
        "without": without_to_json(_without(results)),
    }


def _without(results: Sequence[CaseResults]) -> list[NoResult]:
    return [entry for case in results for entry in case.without]


def _versions(implementations: Sequence[str]) -> dict[str, str]:
    packages = (implementation.package for implementation in implementations_named(implementations))
    return {package: installed_version(package) for package in packages if package}


def print_matrix(
    results: Sequence[CaseResults], implementations: Sequence[str], content: dict[str, Any], console: Console
) -> None:
    """Print a table per precision check, what has no result, what is not as expected, and the verdict.

    Args:
      results: the results of each case.
      implementations: the columns.
      content: what `to_json` returned.
      console: where to print.
    """
    for check in (FLOAT64, FLOAT32):
        show(console, matrix_table(check, results, implementations))
    say(console, LEGEND + "\n\n")
    print_without(_without(results), console)
    for name, bad in unexpected(results).items():
        cases = ", ".join(result.name for result in bad)
        say(console, f"{name} is not as expected in {len(bad)} of {len(results)} cases: {cases}", "red")
        if bad[0].verdict.first is not None:
            say(console, f"  {bad[0].name}: {finding_text(bad[0].verdict.first)}\n\n")
    say_settings(console, content["environment"])
    judged = sum(len(case.judged) for case in results)
    ours = f"{OURS} and its backends" if set(BACKENDS) & set(implementations) else OURS
    line = f"{len(results)} cases, {len(implementations)} implementations, {judged} verdicts; {ours}: "
    say(console, line + content["verdict"], "green" if content["ok"] else "red")


def matrix_table(check: Check, results: Sequence[CaseResults], implementations: Sequence[str]) -> Table:
    """Return one row per case and one column per implementation."""
    rows: list[tuple[str | Cell, ...]] = []
    for case in results:
        row = {result.implementation: _entry(result, check) for result in case.judged}
        row |= {e.implementation: Cell("-" if e.what is Absence.NOT_SUPPORTED else str(e.what)) for e in case.without}
        rows.append((case.judged[0].name, *(row[name] for name in implementations)))
    columns = ("case", *("\n".join(re.split(r"[./]|(?=\[)", name)) for name in implementations))
    return Table(f"{check.dtype}: error / limit", columns, tuple(rows))


def _entry(result: CaseResult, check: Check) -> Cell:
    entries = [entry for gradients in (False, True) if (entry := matrix_entry(result, check, gradients)) is not None]
    if not entries:  # an implementation that is itself the truth in this dtype was not judged
        is_truth = check.dtype in implementations_named([result.implementation])[0].dtypes
        return Cell("=" if is_truth else "")
    expected = all(entry.outcome in (Outcome.AGREE, result.expected) for entry in entries)
    return Cell(
        "/".join(map(_figure, entries)), "good" if expected else TONES[worst(entry.outcome for entry in entries)]
    )


def _figure(entry: Entry) -> str:
    if entry.own_limit:
        return "="
    if entry.ratio is None:
        return MARKS[entry.outcome] or "-"
    figure = f"{entry.ratio:.2f}" if entry.ratio < 10 else f"{entry.ratio:.0e}".replace("e+", "e")
    return figure + MARKS[entry.outcome]
