"""A training in both frameworks as tables, sentences and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crosscheck.core.finding import FLOAT32, Check, Finding, Kind, Outcome, worst
from crosscheck.report.table import Table
from crosscheck.studies.training.optimizers import CLIP_DIFFERS
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.result import TrainingResult


def loss_table(results: Sequence[TrainingResult], title: str = "") -> Table:
    """Return the losses at a few steps, and the difference of the float32 parameters."""
    steps = results[0].steps
    names = list(steps[0].loss)
    columns = ["step", *(f"loss, {name}" for name in names), *(f"held out, {name}" for name in names)]
    columns += ["float32 difference"] * (steps[0].difference is not None)
    rows = []
    for step in steps:
        if step is steps[0] or step.validation:
            figures = [f"{step.loss[name]:.9f}" for name in names]
            figures += [f"{step.validation[name]:.9f}" if step.validation else "" for name in names]
            figures += [] if step.difference is None else [f"{step.difference:.1e}"]
            rows.append((str(step.step), *figures))
    return Table(title, tuple(columns), tuple(rows))


def quantity_table(results: Sequence[TrainingResult], title: str = "") -> Table:
    """Return, per kind of quantity and check, the step and tensor nearest to its limit."""
    findings = [f for result in results for f in (*result.findings, *result.trajectory)]
    checks = sorted({f.check for f in findings}, key=str)
    kinds = results[0].recipe.kinds
    kind_of = lambda finding: kinds.get(str(finding.quantity), str(finding.quantity))
    rows = []
    for kind in dict.fromkeys(map(kind_of, findings)):
        same = [f for f in findings if kind_of(f) == kind]
        count = len({f.quantity for f in same})
        cells = (_cell([f for f in same if f.check == check]) for check in checks)
        rows.append((kind if count == 1 else f"{count} {kind}", *cells))
    return Table(title, ("error / limit", *map(_heading, checks)), tuple(rows))


def _heading(check: Check) -> str:
    return f"{check.dtype}, {'single steps' if check.kind is Kind.TEACHER_FORCED else 'trajectory'}"


def _cell(findings: Sequence[Finding]) -> str:
    outcome = worst(f.verdict for f in findings)
    finding = max((f for f in findings if f.verdict is outcome), key=lambda f: f.ratio)
    if finding.error is None or finding.limit is None:
        return str(outcome)
    text = f"{finding.error:.1e} / {finding.limit:.1e}, {finding.slice}"
    if outcome is Outcome.DISAGREE and finding.check == FLOAT32:
        return text + " (over)"  # reported, not judged
    return text + f" {outcome}" * (outcome is not Outcome.AGREE)


def conventions(recipe: Recipe) -> list[str]:
    """Return how optax and torch.optim differ by convention in what was run, and what makes them the same."""
    differs = list(recipe.algorithm.differs) + [CLIP_DIFFERS] * (recipe.clip is not None)
    return [f"optax and torch, {recipe.optimizer}: {text}" for text in differs]


def closing_line(results: Sequence[TrainingResult]) -> str:
    """Return what was compared, and the verdict."""
    recipe = results[0].recipe
    quantities = len({f.quantity for result in results for f in result.findings})
    numbers = sum(int(np.prod(a.shape)) for a in recipe.weights().values())
    what = f"{recipe.optimizer}, {recipe.steps} steps, {numbers:,} parameters, {quantities} quantities, "
    verdicts = [f"{result.dtype} {result.outcome}" for result in results]
    return f"{what}{', '.join(verdicts)}: {worst(result.outcome for result in results)}"


def to_json(result: TrainingResult) -> dict[str, Any]:
    """Return what there is beside the findings: losses at every step, and where the float32 trajectory departs."""
    names = ("torch", f"jax {result.dtype}")
    steps, held_out = result.steps, [step for step in result.steps if step.validation]
    content: dict[str, Any] = {
        "loss": {name: [step.loss[name] for step in steps] for name in names},
        "validation_loss": {name: {step.step: step.validation[name] for step in held_out} for name in names},
        "undecided": result.undecided,
    }
    if result.dtype == "float32":
        difference = [step.difference for step in steps]
        content |= {"departs": result.departs, "diverges": result.diverges, "parameter_difference": difference}
    return content
