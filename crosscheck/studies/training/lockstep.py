"""Both trainings, and all runs that their limits are made of, one step at a time.

The truth is torch in float64. In each dtype the port trains from the first weights on (the trajectory), and it makes
one step from the truth's own state at every step (single steps). Beside each of them the truth runs three times, with
every number of its state and its loss moved up or down at random at every step. In float32 the optimizer's constants
move too, and torch's own float32 paths run. Only norms are kept: two numbers per step and quantity.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.finding import Check, Kind, Precision
from crosscheck.core.reference import DRAWS, U32, Conditioning, over_neighbours
from crosscheck.core.slices import Scope
from crosscheck.studies.training.in_jax import JaxTrainer
from crosscheck.studies.training.in_torch import TorchTrainer
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.state import (
    GRADIENT_NORM,
    LOSS,
    VALIDATION,
    State,
    distance,
    first_state,
    nudged,
    size,
)

PROBE = {"float64": 2.0**-40, "float32": U32}  # far over float64's rounding, and small enough to be amplified linearly
_EXACT = replace(CRITERIA["float64"], chaos=PROBE["float64"])  # a probe that grew past 1e-3 measures no condition
TRAJECTORIES = (_EXACT, CRITERIA["float32"])
STREAMS = {"float64": 65, "float32": 66}  # of random numbers
TRAINING_STEP = Scope("step", "training step", in_order=True)
Port: TypeAlias = Callable[[Recipe, str], JaxTrainer]


def single_step(dtype: Precision) -> Check:
    """Return the check of each step of a training by itself, from the truth's state."""
    return Check(dtype, Kind.TEACHER_FORCED, 1)


class NormSeries:
    """Two norms per step, in 16 bytes."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def append(self, norms: np.ndarray) -> None:
        """Add the norms of a step, `[2]`."""
        self._numbers.extend(norms)

    def rows(self) -> np.ndarray:
        """Return all norms, `[2, steps]`."""
        return np.array(self._numbers).reshape(-1, 2).T


@dataclass
class ErrorSeries:
    """The errors of one quantity in one precision check, at every step.

    Attributes:
      numbers: how many numbers the quantity has.
      size: the norm of the truth.
      error: the error of the port.
      response: how far the truth moves per relative rounding.
      own_error: the error of torch's own float32 paths.
    """

    numbers: int
    size: NormSeries = field(default_factory=NormSeries)
    error: NormSeries = field(default_factory=NormSeries)
    response: NormSeries = field(default_factory=NormSeries)
    own_error: NormSeries = field(default_factory=NormSeries)

    def conditioning(self) -> Conditioning:
        """Return what the limits are made of."""
        sizes, response = self.size.rows(), self.response.rows()
        condition, own = (
            np.divide(a, sizes, out=np.zeros_like(sizes), where=sizes > 0) for a in (response, self.own_error.rows())
        )
        smooth = (over_neighbours(a, TRAINING_STEP, self.numbers) for a in (condition, own))
        return Conditioning(sizes, next(smooth), response, next(smooth), self.numbers)


@dataclass(frozen=True)
class Losses:
    """A loss in torch, which is the truth, and in JAX by dtype."""

    torch: float
    jax: dict[Precision, float]


@dataclass(frozen=True)
class StepLosses:
    """The losses at one step.

    Attributes:
      step: the step, counted from 1.
      loss: on the batch.
      validation: on held-out text; None if it was not taken.
      difference: the largest relative difference of the float32 parameters of the two frameworks.
    """

    step: int
    loss: Losses
    validation: Losses | None
    difference: float | None


class Lockstep:
    """A recipe in both frameworks. ``errors`` and ``steps`` grow with each step that `advance` yields.

    Attributes:
      recipe: the recipe.
      criteria: the precision checks.
      errors: by check and quantity.
      steps: the losses.
    """

    def __init__(self, recipe: Recipe, criteria: tuple[Criterion, ...] = TRAJECTORIES, port: Port = JaxTrainer) -> None:
        self.recipe, self.criteria = recipe, criteria
        self.truth = TorchTrainer(recipe, "float64")
        self.errors: dict[tuple[Check, str], ErrorSeries] = {}
        self.steps: list[StepLosses] = []
        # what is compared, in the order of the report
        self.quantities = (LOSS, VALIDATION, GRADIENT_NORM, *recipe.parameters, *recipe.slots)
        self._runs = [_CheckRuns(self, criterion, port) for criterion in criteria]

    def advance(self) -> Iterator[StepLosses]:
        """Train, and yield the losses of each step."""
        recipe = self.recipe
        now = first_state(recipe.weights(), recipe.algorithm)
        for step in range(recipe.steps):
            tokens, before = recipe.tokens(step), now
            now = self.truth.step(before, tokens)
            evaluated = self.truth.validation(now) if recipe.evaluates(step) else {}
            for run in self._runs:
                run.advance(before, now | evaluated, tokens, bool(evaluated))
            validation = self._losses(evaluated, VALIDATION) if evaluated else None
            difference = next((run.difference() for run in self._runs if run.paths), None)
            self.steps.append(StepLosses(step + 1, self._losses(now, LOSS), validation, difference))
            yield self.steps[-1]

    def _losses(self, truth: State, name: str) -> Losses:
        return Losses(float(truth[name]), {run.criterion.dtype: float(run.port[name]) for run in self._runs})


class _CheckRuns:
    """All runs beside the truth in one dtype."""

    def __init__(self, whole: Lockstep, criterion: Criterion, port: Port) -> None:
        recipe = whole.recipe
        self.whole, self.criterion = whole, criterion
        self.trainer = port(recipe, criterion.dtype)
        self.paths: list[TorchTrainer] = []
        if criterion.dtype == "float32":
            self.paths = [TorchTrainer(recipe, "float32"), TorchTrainer(recipe, "float32", torch.nn.LSTM)]
        start = first_state(recipe.weights(), recipe.algorithm)
        self.port, self.own = start, [start for _ in self.paths]
        self.moved = [start for _ in range(DRAWS)]
        self.probe = PROBE[criterion.dtype]
        self.rng = np.random.default_rng([recipe.seed, 3, STREAMS[criterion.dtype]])

    def advance(self, before: State, now: State, tokens: np.ndarray, evaluate: bool) -> None:
        """Make one step of all trajectories, and one from the truth's state ``before``, after which it is ``now``."""
        truth = self.whole.truth
        self.port = self._step(self.trainer, self.port, tokens, evaluate)
        self.own = [self._step(p, state, tokens, evaluate) for p, state in zip(self.paths, self.own, strict=True)]
        self.moved = [self._step(truth, self._nudged(s), tokens, evaluate, *self._moves()) for s in self.moved]
        self._record(self.criterion.check, now, self.port, self.own, self.moved)
        single = self._step(self.trainer, before, tokens, evaluate)
        own = [self._step(path, before, tokens, evaluate) for path in self.paths]
        moved = [self._step(truth, self._nudged(before), tokens, evaluate, *self._moves()) for _ in range(DRAWS)]
        self._record(single_step(self.criterion.dtype), now, single, own, moved)

    def difference(self) -> float:
        """Return the largest relative difference of the two frameworks' float32 parameters."""
        ours, theirs = self.port, self.own[0]
        names = self.whole.recipe.parameters
        return float(np.max([distance(ours[n], theirs[n])[0] / size(theirs[n])[0] for n in names]))

    def _moves(self) -> tuple[float, Callable[[float], float] | None]:
        """Return the factor of the loss, and what moves the optimizer's constants. Only float32 rounds these."""
        return self._off(1.0), self._off if self.criterion.dtype == "float32" else None

    def _step(self, trainer: Any, state: State, tokens: np.ndarray, evaluate: bool, *moves: Any) -> State:
        new = trainer.step(state, tokens, *moves)
        return new | trainer.validation(new) if evaluate else new

    def _nudged(self, state: State) -> State:
        return nudged(state, self.rng, self.probe)

    def _off(self, value: float) -> float:
        return value * (1 + self.probe * self.rng.choice((-1.0, 1.0)))

    def _record(self, check: Check, truth: State, port: State, own: Sequence[State], moved: Sequence[State]) -> None:
        for name in self.whole.quantities:
            if name in truth:
                value = truth[name]
                series = self.whole.errors.setdefault((check, name), ErrorSeries(max(value.size, 1)))
                series.size.append(size(value))
                series.error.append(distance(port[name], value))
                series.response.append(np.max([distance(m[name], value) for m in moved], axis=0) / self.probe)
                series.own_error.append(np.max([np.zeros(2), *(distance(o[name], value) for o in own)], axis=0))
