"""Judged cases as a table, sentences and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from rich.console import Console

from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Finding, Outcome, worst
from crosscheck.core.problem import Gradient
from crosscheck.core.slices import TIME
from crosscheck.core.verdict_text import finding_text, reach_text, settled_text
from crosscheck.report.table import Cell, Table, outcome_cell
from crosscheck.report.terminal import say, show
from crosscheck.suite.runs import CaseResult, NoResult, overall

OURS = "jax_lstm"
MOST = 8  # further quantities that a failure names


def case_table(results: Sequence[Sequence[CaseResult]], title: str = "", anchors: Sequence[str] = ()) -> Table:
    """Return one row per case.

    In each precision check a row shows the quantity of jax_lstm that is nearest to its limit, or farthest over it. If
    another implementation has a graver verdict, the row shows a quantity of that implementation.

    Args:
      results: one list per case, with one result per implementation.
      title: the title.
      anchors: where each row leads to on a page.
    """
    rows: list[tuple[str | Cell, ...]] = []
    for case, anchor in zip(results, anchors or [""] * len(results), strict=True):
        cells = [cell for check in (FLOAT64, FLOAT32) for cell in worst_in(case, check)]
        seconds = sum(result.seconds for result in case)
        rows.append((Cell(case[0].name, to=anchor), case_outcome(case), *cells, f"{seconds:.1f} s"))
    checks = ("float64: err / limit", "worst quantity", "float32: err / limit", "worst quantity")
    return Table(title, ("case", "verdict", *checks, "time"), tuple(rows), numeric=("time",))


def case_outcome(case: Sequence[CaseResult]) -> Cell:
    """Return the gravest outcome that was not expected; without one, the gravest."""
    surprising = [result for result in case if not result.ok]
    return outcome_cell(worst(result.outcome for result in surprising or case), case[0].expected)


def worst_in(case: Sequence[CaseResult], check: Check) -> tuple[str, str]:
    """Return error and limit of the finding that a row shows, and its quantity with the implementation if not ours."""
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
    whose = "" if result.implementation == OURS else f" ({result.implementation})"
    return _figures(finding), finding.label + whose


def _figures(finding: Finding) -> str:
    if finding.error is None or finding.limit is None:
        return "- / -" if finding.verdict is not Outcome.VACUOUS else "nothing to compare"
    return f"{finding.error:.1e} / {finding.limit:.1e}"


def reach_of(case: Sequence[CaseResult]) -> str:
    """Return how far back gradients reach if they fade, one line per gradient."""
    findings = next((r for r in case if r.implementation == OURS), case[0]).verdict.findings
    inputs = [f for f in findings if (f.check, f.scope, f.quantity) == (FLOAT64, TIME, Gradient("x")) and _fades(f)]
    return "\n".join(reach_text(findings, finding) for finding in inputs)


def _fades(finding: Finding) -> bool:
    sizes = finding.rows.size if finding.rows is not None else np.ones(1)
    return bool(sizes[0] < 1e-3 * sizes[-1])


def print_cases(results: Sequence[Sequence[CaseResult]], console: Console) -> None:
    """Print the table, how far gradients reach, and the failures."""
    show(console, case_table(results))
    for case in results:
        reach = reach_of(case)
        if reach:
            say(console, f"{case[0].name}: {reach}")
    print_failures(results, console)


def print_failures(results: Sequence[Sequence[CaseResult]], console: Console) -> None:
    """Print every result that is not as expected, with its diagnosis and the command that gives it again."""
    for result in (result for case in results for result in case if not result.ok):
        say(console, _failure_text(result) + "\n\n", "red")


def _failure_text(result: CaseResult) -> str:
    verdict, first = result.verdict, result.verdict.first
    lines = [f"{result.name}, {result.implementation}: {verdict.outcome}, expected {result.expected}"]
    if first is not None:
        lines.append(f"  first wrong quantity: {finding_text(first)}")
    same = [f for f in verdict.findings if f.final is verdict.outcome]
    others = dict.fromkeys(f"{f.quantity} [{f.check}]" for f in same if first is None or f.quantity != first.quantity)
    if others:
        lines.append(f"  and {len(others)} more: " + ", ".join(list(others)[:MOST]))
    lines += [f"  diagnosis: {line}" for line in verdict.diagnosis]
    if verdict.cause and not verdict.diagnosis:
        lines.append(f"  likely cause: {verdict.cause}")
    return "\n".join([*lines, f"  reproduce: {result.reproduce}"])


def print_without(without: Sequence[NoResult], console: Console) -> None:
    """Print one line per reason: the implementations that give it, and the cases to which they have no answer."""
    cases: dict[tuple[str, str, str], list[str]] = {}
    for entry in without:
        cases.setdefault((entry.implementation, str(entry.what), entry.reason), []).append(entry.name)
    implementations: dict[tuple[str, str, str], list[str]] = {}
    for (implementation, what, reason), names in cases.items():
        implementations.setdefault((what, ", ".join(names), reason), []).append(implementation)
    for (what, listed, reason), same in implementations.items():
        say(console, f"{', '.join(same)}: {what}: {listed}: {reason}")
    if without:
        console.print()


def counts_text(results: Sequence[Sequence[CaseResult]]) -> str:
    """Return how many cases, implementations and quantities were judged."""
    flat = [result for case in results for result in case]
    quantities = sum(len({f.quantity for f in r.verdict.findings if not f.own_limit}) for r in flat)
    implementations = ", ".join(dict.fromkeys(r.implementation for r in flat))
    controls = _controls(results)
    cases = f"{len(results)} case{'s' * (len(results) != 1)}" + f" ({controls} control)" * bool(controls)
    return f"{cases}, implementations {implementations}, {quantities} quantities"


def verdict_text(results: Sequence[Sequence[CaseResult]]) -> str:
    """Return the verdict on all cases in a few words."""
    flat = [result for case in results for result in case]
    failed, outcome = [r for r in flat if not r.ok], overall(flat)
    if failed:
        what = "a control did not alarm" if outcome is Outcome.AGREE else str(outcome)
        return f"{len(failed)} not as expected, {what}"
    return str(outcome) if _controls(results) < len(results) else f"{outcome}, as expected"


def closing_line(results: Sequence[Sequence[CaseResult]]) -> str:
    """Return counts and verdict."""
    return f"{counts_text(results)}: {verdict_text(results)}"


def _controls(results: Sequence[Sequence[CaseResult]]) -> int:
    return len({r.name for case in results for r in case if r.expected is not Outcome.AGREE})


def to_json(results: Sequence[Sequence[CaseResult]], environment: dict[str, Any]) -> dict[str, Any]:
    """Return what all commands that judge cases have in common."""
    flat = [result for case in results for result in case]
    return {
        "ok": all(result.ok for result in flat),
        "verdict": str(overall(flat)),
        "cases": [_case_to_json(result) for result in flat],
        "environment": environment,
    }


def without_to_json(without: Sequence[NoResult]) -> list[dict[str, str]]:
    """Return the implementations that have no answer to a case, and why."""
    return [asdict(entry) | {"what": str(entry.what)} for entry in without]


def _case_to_json(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "implementation": result.implementation,
        "ok": result.ok,
        "verdict": str(result.outcome),
        "expected": str(result.expected),
        "cause": result.verdict.cause,
        "diagnosis": list(result.verdict.diagnosis),
        "notes": list(result.verdict.notes),
        "seconds": round(result.seconds, 3),
        "reproduce": result.reproduce,
        "findings": [finding_to_json(finding) for finding in result.verdict.findings],
    }


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding. It has the counts of slices and the worst one, not all of them."""
    content = asdict(replace(finding, rows=None))
    for name in (
        "quantity",
        "check",
        "scope",
        "settled_by",
        "rows",
        "grounds",
        "too_small",
    ):  # the last two: only of `check`
        del content[name]
    named = {"quantity": str(finding.quantity), "check": str(finding.check), "scope": str(finding.scope)}
    return named | content | {"settled": settled_text(finding), "ok": finding.ok}
