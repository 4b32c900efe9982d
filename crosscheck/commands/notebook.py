"""``crosscheck notebook``: the teaching notebook's LSTM class against its equations, from behaviour alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from crosscheck.commands.common import check_json_file, write_json_file
from crosscheck.commands.failures import failures_in_one_line
from crosscheck.commands.progress import progress
from crosscheck.core.environment import describe_environment
from crosscheck.report.terminal import new_table, output, say, show
from crosscheck.studies.notebook import SMALL, Behaviour, Explained, NotebookResult, examine_notebook, notebook_classes


def run(json_file: Path | None) -> None:
    """Examine both classes, print what was found and exit."""
    check_json_file(json_file)
    with failures_in_one_line(), progress() as work:
        work.begins("the notebook's class")
        result = examine_notebook(*notebook_classes())
    write_json_file(json_file, "notebook", _as_dict(result))
    console = output()
    show(console, _table(result), keys=2)
    for line in sentences(result):
        say(console, line)
    raise typer.Exit(0 if result.ok else 1)


def sentences(result: NotebookResult) -> list[str]:
    """What was found, in words; the last line is the verdict."""
    lines = _told("the published class", result.published) + _told("the corrected class", result.corrected)
    for agreement in result.agreements:
        word = "agrees" if agreement.ok else "does not agree"
        figures = f"error {agreement.error:.1e}, limit {SMALL:.0e}"
        lines.append(f"the corrected class {word} with {agreement.other} on its weights: {figures}")
    if result.ok:
        return [*lines, "both departures of the published class found, and none in the corrected one"]
    return [*lines, "not as expected: both departures in the published class, and none in the corrected one"]


def _told(name: str, found: Behaviour) -> list[str]:
    lines = []
    for question, explained in (("the states h and c", found.gates), ("the collected hidden states", found.collected)):
        if not explained.decided:
            nearest = f"the nearest, {explained.found}, errs by {explained.error:.1e}"
            lines.append(f"{name}: no explanation fits {question}; {nearest}")
    if found.gates.decided and not found.gradients_agree:
        zero = ", ".join(found.unused) or "none"
        lines.append(f"{name}: its gradients contradict its outputs; layers without a gradient: {zero}")
    if found.departures:
        numbered = "; ".join(f"({n}) {words}" for n, words in enumerate(found.departures, 1))
        return [*lines, f"{name} departs from the equations: {numbered}"]
    return lines or [f"{name} follows the equations"]


def _table(result: NotebookResult) -> Table:
    table = new_table(["class", "question", "found", "error", "next best", "its error", "equations", "their error"])
    for name, found in (("as published", result.published), ("corrected", result.corrected)):
        table.add_row(name, "layers that feed gates f i c_ o", *_cells(found.gates))
        table.add_row(name, "collected hidden states", *_cells(found.collected))
    return table


def _cells(explained: Explained) -> tuple[str, ...]:
    found = explained.found if explained.decided else f"none (nearest {explained.found})"
    pairs = (
        (found, explained.error),
        (explained.runner_up, explained.runner_up_error),
        (explained.equations, explained.equations_error),
    )
    return tuple(cell for words, error in pairs for cell in (words, f"{error:.1e}"))


def _as_dict(result: NotebookResult) -> dict[str, Any]:
    classes = {"published": result.published, "corrected": result.corrected}
    told = {
        name: asdict(found) | {"explained": found.explained, "departures": found.departures}
        for name, found in classes.items()
    }
    agreements = [asdict(agreement) | {"ok": agreement.ok} for agreement in result.agreements]
    return {"ok": result.ok, **told, "agreements": agreements, "environment": describe_environment()}
