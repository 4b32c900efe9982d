"""A training in both frameworks, finished and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from crosscheck.core.finding import FLOAT64, Finding, Outcome
from crosscheck.core.verdict import Verdict
from crosscheck.studies.training.judgement import departure, parting, undecided_from
from crosscheck.studies.training.lockstep import Lockstep, Moment, single_step
from crosscheck.studies.training.recipe import Recipe

JUDGED = {"float64": (FLOAT64, single_step("float64")), "float32": (single_step("float32"),)}  # these make a verdict


@dataclass(frozen=True)
class TrainingResult:
    """One dtype of one training. ``findings`` make the verdict; ``trajectory`` is float32's, which is reported only.

    leaves: (step, quantity) where the float32 trajectory is first beyond what rounding explains. parts: the step from
    which the two frameworks' float32 parameters differ by more than 1e-3. Steps count from 1.
    """

    recipe: Recipe
    dtype: str
    findings: tuple[Finding, ...]
    trajectory: tuple[Finding, ...]
    moments: Sequence[Moment]
    undecided: tuple[int, str] | None
    leaves: tuple[int, str] | None = None
    parts: int | None = None

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.findings, notes=tuple(self.notes))

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the verdict, in sentences."""
        notes = []
        if self.dtype == "float32":
            last = self.moments[-1]
            text = f"after {last.step + 1} steps the float32 parameters of the two differ by {last.apart:.1e} at most; "
            never = "they never part by more than 1e-3"
            notes.append(text + (never if self.parts is None else f"they part by more than 1e-3 at step {self.parts}"))
        if self.leaves is not None:
            step, quantity = self.leaves
            text = f"from step {step} on ({quantity}) the float32 trajectory is further off than rounding explains"
            steady = "; single steps are not: a small error that is the same in every step adds up"
            notes.append(text + steady * all(f.ok for f in self.findings))
        if self.undecided is not None:
            step, quantity = self.undecided
            text = f"from step {step} on ({quantity}) the training amplifies {self.dtype}'s rounding past deciding: "
            text += "there the trajectory is inconclusive, and single steps from torch's own state decide"
            lost = [m.step + 1 for m in self.moments if not math.isfinite(m.losses["torch"])]
            notes.append(f"torch itself is not finite from step {lost[0]} on: nothing to compare" if lost else text)
        return notes

    def as_dict(self) -> dict[str, Any]:
        """What JSON has beside the findings: losses at every step, and where float32 goes its own way."""
        label = f"jax {self.dtype}"
        content: dict[str, Any] = {
            "loss": {
                "torch": [m.losses["torch"] for m in self.moments],
                label: [m.losses[label] for m in self.moments],
            },
            "validation loss": {
                side: {m.step + 1: m.validation[side] for m in self.moments if m.validation}
                for side in ("torch", label)
            },
            "undecided": self.undecided,
        }
        if self.dtype == "float32":
            apart = [m.apart for m in self.moments]
            content |= {"leaves the limits": self.leaves, "parts by 1e-3": self.parts, "parameters apart": apart}
        return content


def results_of(run: Lockstep, findings: Sequence[Finding]) -> list[TrainingResult]:
    """One a lane, of the findings of `judge_training`."""
    results = []
    for criterion in run.criteria:
        judged = tuple(f for f in findings if f.check in JUDGED[criterion.dtype])
        reported = tuple(f for f in findings if f.check.dtype == criterion.dtype and f not in judged)
        undecided = undecided_from(findings, criterion.check)
        leaves = departure(reported)
        result = TrainingResult(run.recipe, criterion.dtype, judged, reported, run.moments, undecided, leaves)
        results.append(result if criterion.dtype == "float64" else replace(result, parts=parting(run)))
    return results
