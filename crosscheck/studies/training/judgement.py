"""What a training in lockstep comes to: findings by quantity and lane, over all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from crosscheck.core.criterion import Criterion, judge_rows
from crosscheck.core.finding import SEVERITY, Check, Finding, Outcome
from crosscheck.core.judge import settle
from crosscheck.core.problem import Quantity
from crosscheck.core.reference import CHAOS
from crosscheck.studies.training.lockstep import TRAINING_STEP, Lockstep
from crosscheck.studies.training.state import VALIDATION


def judge_training(run: Lockstep) -> tuple[Finding, ...]:
    """One finding a quantity and lane, in the order of the quantities; a doubt of a trajectory is settled by its steps.

    Where the training amplifies the perturbations that measure its condition past 1e-3, a trajectory is INCONCLUSIVE
    from there on; each single step from the truth's state stays decidable.
    """
    criteria: dict[str | None, Criterion] = {criterion.dtype: criterion for criterion in run.criteria}
    found = []
    for (check, quantity), records in run.records.items():
        criterion = replace(criteria[check.dtype], check=check)
        steps = [n for n in range(run.recipe.steps) if quantity != VALIDATION or run.recipe.evaluates(n)]
        label = lambda row, steps=steps: f"step={steps[row] + 1}"
        error = records.error.rows()
        finding = judge_rows(
            quantity, TRAINING_STEP, label, error, records.conditioning(), criterion, run.recipe.length
        )
        if finding.verdict is Outcome.DISAGREE:
            finding = replace(finding, first_step=steps[first(finding, Outcome.DISAGREE)] + 1)
        found.append(finding)
    order: list[Quantity] = list(dict.fromkeys(quantity for _, quantity in run.records))
    done = [f for dtype in criteria for f in settle([f for f in found if f.check.dtype == dtype])]
    return tuple(sorted(done, key=lambda f: order.index(f.quantity)))


def first(finding: Finding, outcome: Outcome) -> int:
    """The first row with that outcome."""
    assert finding.rows is not None
    return int(np.argmax(finding.rows.outcomes == SEVERITY.index(outcome)))


def undecided_from(findings: Sequence[Finding], check: Check) -> tuple[int, str] | None:
    """The step, counted from 1, from which a trajectory decides nothing, and the quantity that says so first."""
    doubts = [f for f in findings if f.check == check and f.quantity != VALIDATION and _has(f, Outcome.INCONCLUSIVE)]
    return min(((first(f, Outcome.INCONCLUSIVE) + 1, str(f.quantity)) for f in doubts), default=None)


def departure(findings: Sequence[Finding]) -> tuple[int, str] | None:
    """The first step, counted from 1, that is beyond its limit, and its quantity."""
    return min(((f.first_step, str(f.quantity)) for f in findings if f.first_step is not None), default=None)


def parting(run: Lockstep) -> int | None:
    """The step, counted from 1, from which the float32 parameters of both frameworks differ by more than 1e-3."""
    return next((m.step + 1 for m in run.moments if m.apart is not None and not m.apart <= CHAOS), None)


def _has(finding, outcome):
    return finding.rows is not None and finding.rows.count(outcome) > 0
