"""A training in both frameworks, finished and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crosscheck.core.conditioning import CHAOS
from crosscheck.core.finding import FLOAT64, Check, Finding, Outcome, Precision
from crosscheck.core.verdict import Verdict
from crosscheck.studies.training.judgement import Place, departure, undecided_from
from crosscheck.studies.training.lockstep import Lockstep, StepLosses, single_step
from crosscheck.studies.training.recipe import Recipe

JUDGED: dict[Precision, tuple[Check, ...]] = {  # the checks that make a verdict
    "float64": (FLOAT64, single_step("float64")),
    "float32": (single_step("float32"),),
}


@dataclass(frozen=True)
class TrainingResult:
    """One training in one dtype.

    Attributes:
      recipe: what was trained.
      dtype: the dtype of the JAX training.
      findings: the findings that make the verdict.
      trajectory: findings about the float32 trajectory, which are reported and not judged.
      steps: the losses at every step.
    """

    recipe: Recipe
    dtype: Precision
    findings: tuple[Finding, ...]
    trajectory: tuple[Finding, ...]
    steps: Sequence[StepLosses]

    @property
    def undecided(self) -> Place | None:
        """The step from which the trajectory decides nothing; None if it decides everywhere."""
        return undecided_from((*self.findings, *self.trajectory), Check(self.dtype))

    @property
    def departs(self) -> Place | None:
        """Where the float32 trajectory is first farther off than rounding explains."""
        return departure(self.trajectory)

    @property
    def diverges(self) -> int | None:
        """The step, from 1, from which the float32 parameters of the two frameworks differ by more than 1e-3."""
        return next((s.step for s in self.steps if s.difference is not None and not s.difference <= CHAOS), None)

    @property
    def verdict(self) -> Verdict:
        """The verdict, with the notes."""
        return Verdict(self.findings, notes=tuple(self.notes))

    @property
    def outcome(self) -> Outcome:
        """The outcome of the verdict."""
        return self.verdict.outcome

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the verdict, in sentences."""
        notes = []
        if self.dtype == "float32":
            last = self.steps[-1]
            text = f"after {last.step} steps the float32 parameters of the two differ by {last.difference:.1e} at most"
            never = "they never differ by more than 1e-3"
            since = f"they differ by more than 1e-3 from step {self.diverges} on"
            notes.append(f"{text}; {never if self.diverges is None else since}")
        if self.departs is not None:
            step, quantity = self.departs
            text = f"from step {step} on ({quantity}) the float32 trajectory is farther off than rounding explains"
            steady = "; single steps are not: a small error that is the same in every step adds up"
            notes.append(text + steady * all(f.ok for f in self.findings))
        if self.undecided is not None:
            step, quantity = self.undecided
            text = f"from step {step} on ({quantity}) the training amplifies {self.dtype}'s rounding past deciding: "
            text += "there the trajectory is inconclusive, and single steps from torch's own state decide"
            lost = [s.step for s in self.steps if not math.isfinite(s.loss["torch"])]
            notes.append(f"torch itself is not finite from step {lost[0]} on: nothing to compare" if lost else text)
        return notes


def results_of(run: Lockstep, findings: Sequence[Finding]) -> list[TrainingResult]:
    """Return one result per dtype, from the findings of `judge_training`."""
    results = []
    for dtype in (criterion.dtype for criterion in run.criteria):
        judged = tuple(f for f in findings if f.check in JUDGED[dtype])
        reported = tuple(f for f in findings if f.check.dtype == dtype and f.check not in JUDGED[dtype])
        results.append(TrainingResult(run.recipe, dtype, judged, reported, run.steps))
    return results
