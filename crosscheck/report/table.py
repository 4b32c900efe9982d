"""The suite's results as a table, one row a case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Finding, Outcome, worst
from crosscheck.core.problem import Gradient
from crosscheck.core.slices import TIME
from crosscheck.core.verdict_text import finding_text, reach_text
from crosscheck.report.terminal import new_table, say, show
from crosscheck.suite.runs import CaseResult, NoResult, overall

STYLE = {Outcome.AGREE: "green", Outcome.VACUOUS: "yellow", Outcome.INCONCLUSIVE: "yellow", Outcome.DISAGREE: "red"}


OURS = "jax_lstm"


def print_table(results: Sequence[Sequence[CaseResult]], console: Console) -> None:
    """A row a case, then what needs words.

    In each lane a row shows the quantity of jax_lstm that is nearest to its limit, or furthest over it; another
    side's where that one has the graver verdict.
    """
    lanes = (title for dtype in ("float64", "float32") for title in (f"{dtype}: err / limit", "worst quantity"))
    table = new_table(["case", "verdict", *lanes, "time"], numeric=["time"])
    for case in results:
        outcome, ok = worst(r.outcome for r in case), all(r.ok for r in case)
        expected = outcome is not Outcome.AGREE and ok
        label = Text(f"{outcome}{' (expected)' if expected else ''}", "green" if ok else STYLE[outcome])
        cells = [cell for check in (FLOAT64, FLOAT32) for cell in worst_in(case, check)]
        table.add_row(case[0].name, label, *cells, f"{sum(r.seconds for r in case):.1f} s")
    show(console, table)
    for case in results:
        reach = reach_of(case)
        if reach:
            say(console, f"{case[0].name}: {reach}")
    print_failures(results, console)


def print_without(without: Sequence[NoResult], console: Console) -> None:
    """A line a reason: the sides that give it, and the cases to which they have no answer."""
    cases: dict[tuple[str, str, str], list[str]] = {}
    for entry in without:
        cases.setdefault((entry.implementation, entry.what, entry.reason), []).append(entry.name)
    sides: dict[tuple[str, str, str], list[str]] = {}
    for (side, what, reason), names in cases.items():
        sides.setdefault((what, ", ".join(names), reason), []).append(side)
    for (what, names_in_line, reason), of in sides.items():
        line = f"{', '.join(of)}: {what}: {names_in_line}: {reason}"
        say(console, line)
    if without:
        console.print()


def print_failures(results: Sequence[Sequence[CaseResult]], console: Console) -> None:
    for result in (result for case in results for result in case):
        if not result.ok:
            _print_failure(result, console)


def closing_line(results: Sequence[Sequence[CaseResult]]) -> str:
    """Counts, and the verdict as the last word."""
    flat = [result for case in results for result in case]
    quantities = sum(len({f.quantity for f in r.verdict.findings if not f.own_limit}) for r in flat)
    sides = ", ".join(dict.fromkeys(r.implementation for r in flat))
    failed = [r for r in flat if not r.ok]
    controls = len({r.name for r in flat if r.expected is not Outcome.AGREE})
    counted = f"{len(results)} case{'s' * (len(results) != 1)}" + f" ({controls} control)" * bool(controls)
    head = f"{counted}, sides {sides}, {quantities} quantities: "
    outcome = overall(flat)
    if not failed:
        return head + (f"{outcome}" if controls < len(results) else f"{outcome}, as expected")
    return (
        f"{head}{len(failed)} not as expected, {outcome if outcome is not Outcome.AGREE else 'a control did not alarm'}"
    )


def worst_in(case: Sequence[CaseResult], check: Check) -> tuple[str, str]:
    """Error and limit of the finding that the row shows, and its name, with the side where it is not ours."""
    judged = [
        (result, finding)
        for result in case
        for finding in result.verdict.findings
        if finding.check == check and not finding.own_limit
    ]
    if not judged:
        return "", ""
    gravest = worst(finding.final for _, finding in judged)
    grave = [(r, f) for r, f in judged if f.final is gravest]
    grave = [(r, f) for r, f in grave if not f.settled_by] or grave
    result, finding = max(grave, key=lambda pair: (pair[0].implementation == OURS, pair[1].ratio))
    side = "" if result.implementation == OURS else f" ({result.implementation})"
    return _figures(finding), finding.label + side


def _figures(finding: Finding) -> str:
    if finding.error is None or finding.limit is None:
        return "- / -" if finding.verdict is not Outcome.VACUOUS else "nothing to compare"
    return f"{finding.error:.1e} / {finding.limit:.1e}"


def reach_of(case: Sequence[CaseResult]) -> str:
    """How far gradients reach back, where they fade, a line a gradient: what the long cases are about."""
    findings = next((r for r in case if r.implementation == OURS), case[0]).verdict.findings
    inputs = [
        f for f in findings if f.check == FLOAT64 and f.scope == TIME and f.quantity == Gradient("x") and _fades(f)
    ]
    return "\n".join(reach_text(findings, finding) for finding in inputs)


def _fades(finding: Finding) -> bool:
    sizes = finding.rows.size if finding.rows is not None else np.ones(1)
    return bool(sizes[0] < 1e-3 * sizes[-1])


def _print_failure(result: CaseResult, console: Console) -> None:
    verdict, first = result.verdict, result.verdict.first
    lines = [f"{result.name}, side {result.implementation}: {verdict.outcome}, expected {result.expected}"]
    if first is not None:
        lines.append(f"  first wrong quantity: {finding_text(first)}")
    same = [f for f in verdict.findings if f.final is verdict.outcome]
    others = dict.fromkeys(f"{f.quantity} [{f.check}]" for f in same if first is None or f.quantity != first.quantity)
    if others:
        lines.append(f"  and {len(others)} more: " + ", ".join(list(others)[:8]))
    lines += [f"  diagnosis: {line}" for line in verdict.diagnosis]
    if verdict.cause and not verdict.diagnosis:
        lines.append(f"  likely cause: {verdict.cause}")
    lines.append(f"  reproduce: {result.reproduce}")
    say(console, "\n".join(lines) + "\n\n", "red")
