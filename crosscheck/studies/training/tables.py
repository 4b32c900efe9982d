"""A training in both frameworks as tables and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from crosscheck.core.finding import FLOAT32, Check, Finding, Kind, Outcome, worst
from crosscheck.report.terminal import new_table
from crosscheck.studies.training.optimizers import CLIP_DIFFERS
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.result import TrainingResult

ROWS = 10


def loss_rows(results: Sequence[TrainingResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: the losses of both sides at a few steps, and how far float32's parameters are apart."""
    moments = results[0].moments
    sides = list(moments[0].losses)
    columns = ["step", *(f"loss, {side}" for side in sides), *(f"held out, {side}" for side in sides)]
    columns += ["float32 apart"] * (moments[0].apart is not None)
    shown = dict.fromkeys([0, *(m.step for m in moments if m.validation)])
    rows = []
    for n in shown:
        moment = moments[n]
        held_out = [f"{moment.validation[side]:.9f}" if moment.validation else "" for side in sides]
        apart = [] if moment.apart is None else [f"{moment.apart:.1e}"]
        rows.append([str(n + 1), *(f"{moment.losses[side]:.9f}" for side in sides), *held_out, *apart])
    return columns, rows


def loss_table(results: Sequence[TrainingResult]) -> Table:
    columns, rows = loss_rows(results)
    return _table(columns, rows)


def quantity_rows(results: Sequence[TrainingResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: of each kind of quantity the step and tensor nearest to its limit, a column a lane."""
    findings = [f for result in results for f in (*result.findings, *result.trajectory)]
    checks = sorted({f.check for f in findings}, key=str)
    rows = []
    for kind in dict.fromkeys(map(_kind, findings)):
        same = [f for f in findings if _kind(f) == kind]
        count = len({f.quantity for f in same})
        cells = [_cell([f for f in same if f.check == check]) for check in checks]
        rows.append([kind if count == 1 else f"{count} {kind}", *cells])
    return ["error / limit at step", *map(_heading, checks)], rows


def quantity_table(results: Sequence[TrainingResult]) -> Table:
    return _table(*quantity_rows(results))


def _table(columns, rows) -> Table:
    table = new_table(columns)
    for row in rows:
        table.add_row(*row)
    return table


def _kind(finding: Finding) -> str:
    first, _, rest = str(finding.quantity).partition(" ")
    if "." in rest:
        return first
    return "parameters" if "." in first else str(finding.quantity)


def _heading(check: Check) -> str:
    return f"{check.dtype}, {'single steps' if check.kind is Kind.TEACHER_FORCED else 'trajectory'}"


def _cell(findings: Sequence[Finding]) -> str:
    outcome = worst(f.verdict for f in findings)
    finding = max((f for f in findings if f.verdict is outcome), key=lambda f: f.ratio)
    if finding.error is None or finding.limit is None:
        return str(outcome)
    text = f"{finding.error:.1e} / {finding.limit:.1e} at {finding.slice.removeprefix('step=')}"
    if outcome is Outcome.DISAGREE and finding.check == FLOAT32:
        return text + " (over)"  # reported, not judged
    return text + f" {outcome}" * (outcome is not Outcome.AGREE)


def conventions(recipe: Recipe) -> list[str]:
    """How optax and torch.optim differ by convention in what was run, and what makes them the same."""
    differs = list(recipe.algorithm.differs) + [CLIP_DIFFERS] * (recipe.clip is not None)
    return [f"optax and torch, {recipe.optimizer}: {text}" for text in differs]


def closing_line(results: Sequence[TrainingResult]) -> str:
    """What was compared, and the verdict as the last word."""
    recipe = results[0].recipe
    quantities = len({f.quantity for result in results for f in result.findings})
    numbers = sum(int(np.prod(a.shape)) for a in recipe.weights().values())
    what = f"{recipe.optimizer}, {recipe.steps} steps, {numbers:,} parameters, {quantities} quantities, "
    verdicts = [f"{result.dtype} {result.outcome}" for result in results]
    return f"{what}{', '.join(verdicts)}: {worst(result.outcome for result in results)}"
