"""Findings about a training in lockstep, by quantity and precision check, over all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from crosscheck.core.criterion import Criterion
from crosscheck.core.finding import SEVERITY, Check, Finding, Outcome
from crosscheck.core.judge import settle
from crosscheck.core.problem import Quantity
from crosscheck.core.rows import judge_rows
from crosscheck.studies.training.lockstep import TRAINING_STEP, Lockstep
from crosscheck.studies.training.state import VALIDATION


class Place(NamedTuple):
    """A step, counted from 1, and a quantity."""

    step: int
    quantity: str


def judge_training(run: Lockstep) -> tuple[Finding, ...]:
    """Return one finding per quantity and check, in the order of the quantities.

    If the training amplifies the perturbations that measure its condition past 1e-3, a trajectory is INCONCLUSIVE from
    there on. Each single step from the truth's state stays decidable, and settles the doubt.
    """
    criteria: dict[str | None, Criterion] = {criterion.dtype: criterion for criterion in run.criteria}
    findings = []
    for (check, quantity), errors in run.errors.items():
        criterion = replace(criteria[check.dtype], check=check)
        steps = [n for n in range(run.recipe.steps) if quantity != VALIDATION or run.recipe.evaluates(n)]
        label = lambda row, steps=steps: f"step={steps[row] + 1}"
        error, known = errors.rows()
        finding = judge_rows(quantity, TRAINING_STEP, label, error, known, criterion, run.recipe.length)
        if finding.verdict is Outcome.DISAGREE:
            finding = replace(finding, first_step=steps[_first(finding, Outcome.DISAGREE)] + 1)
        findings.append(finding)
    order: list[Quantity] = list(dict.fromkeys(quantity for _, quantity in run.errors))
    done = [f for dtype in criteria for f in settle([f for f in findings if f.check.dtype == dtype])]
    return tuple(sorted(done, key=lambda f: order.index(f.quantity)))


def _first(finding: Finding, outcome: Outcome) -> int:
    """Return the first row with that outcome."""
    assert finding.rows is not None
    return int(np.argmax(finding.rows.outcomes == SEVERITY.index(outcome)))


def undecided_from(findings: Sequence[Finding], check: Check) -> Place | None:
    """Return the step from which a trajectory decides nothing, and the quantity that is undecided first."""
    doubts = [
        f
        for f in findings
        if f.check == check and f.quantity != VALIDATION and f.rows is not None and f.rows.count(Outcome.INCONCLUSIVE)
    ]
    return min((Place(_first(f, Outcome.INCONCLUSIVE) + 1, str(f.quantity)) for f in doubts), default=None)


def departure(findings: Sequence[Finding]) -> Place | None:
    """Return the first step that is over its limit, and its quantity."""
    return min((Place(f.first_step, str(f.quantity)) for f in findings if f.first_step is not None), default=None)
