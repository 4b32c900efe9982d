"""Both trainings, and all runs from which their limits are made, one step at a time.

The truth is torch in float64. In each dtype the port trains from the first weights on (the trajectory), and it makes
one step from the truth's own state at every step (single steps). Beside each of them the truth runs three times, with
every number of its state and its loss moved up or down at random at every step. In float32 the optimizer's constants
move too, and torch's own float32 paths run. Only norms are kept: two numbers per step and quantity.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from crosscheck.core.conditioning import U32, Conditioning
from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.finding import Check, Kind, Precision
from crosscheck.core.reference import DRAWS, over_neighbours
from crosscheck.core.slices import Scope
from crosscheck.studies.training.in_jax import JaxTrainer
from crosscheck.studies.training.in_torch import TorchTrainer
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.state import GRADIENT_NORM, LOSS, VALIDATION, State, distance, nudged, size

PROBE = {"float64": 2.0**-40, "float32": U32}  # far over float64's rounding, and small enough to be amplified linearly
_EXACT = replace(CRITERIA["float64"], chaos=PROBE["float64"])  # a probe that grew past 1e-3 measures no condition
TRAJECTORIES = (_EXACT, CRITERIA["float32"])
STREAMS = {"float64": 65, "float32": 66}  # of random numbers
TRAINING_STEP = Scope("step", "training step", in_order=True)
Port: TypeAlias = Callable[[Recipe, str], JaxTrainer]
Losses: TypeAlias = dict[str, float]  # in "torch", which is the truth, in "jax float64" and in "jax float32"


def single_step(dtype: Precision) -> Check:
    """Return the check of each step of a training by itself, from the truth's state."""
    return Check(dtype, Kind.TEACHER_FORCED, 1)


class ErrorSeries:
    """The errors of one quantity in one precision check, in 64 bytes per step.

    Args:
      numbers: how many numbers the quantity has.
    """

    def __init__(self, numbers: int) -> None:
        self.numbers = numbers
        self._norms = array("d")

    def append(self, size: np.ndarray, error: np.ndarray, response: np.ndarray, own_error: np.ndarray) -> None:
        """Add a step. Each argument is both norms, `[2]`.

        Args:
          size: the norms of the truth.
          error: the norms of the port's error.
          response: how far the truth moves per relative rounding.
          own_error: the norms of the error of torch's own float32 paths.
        """
        self._norms.extend(np.concatenate((size, error, response, own_error)))

    def rows(self) -> tuple[np.ndarray, Conditioning]:
        """Return the port's error, `[2, steps]`, and what its limits are made of."""
        size, error, response, own = np.array(self._norms).reshape(-1, 4, 2).transpose(1, 2, 0)
        condition, own_error = (
            over_neighbours(np.divide(a, size, out=np.zeros_like(size), where=size > 0), TRAINING_STEP, self.numbers)
            for a in (response, own)
        )
        return error, Conditioning(size, condition, response, own_error, self.numbers)


@dataclass(frozen=True)
class StepLosses:
    """The losses at one step.

    Attributes:
      step: the step, counted from 1.
      loss: the loss on the batch.
      validation: the loss on held-out text; empty if it was not taken.
      difference: the largest relative difference of the float32 parameters of the two frameworks.
    """

    step: int
    loss: Losses
    validation: Losses
    difference: float | None


class Lockstep:
    """A recipe in both frameworks. ``errors`` and ``steps`` grow with each step that `advance` yields.

    Attributes:
      recipe: the recipe.
      criteria: the precision checks.
      errors: the errors by check and quantity.
      steps: the losses.
    """

    def __init__(self, recipe: Recipe, criteria: tuple[Criterion, ...] = TRAJECTORIES, port: Port = JaxTrainer) -> None:
        self.recipe, self.criteria = recipe, criteria
        self.truth = TorchTrainer(recipe, "float64")
        self.errors: dict[tuple[Check, str], ErrorSeries] = {}
        self.steps: list[StepLosses] = []
        self.quantities = (LOSS, VALIDATION, GRADIENT_NORM, *recipe.kinds)  # in the order of the report
        self._runs = [_CheckRuns(self, criterion, port) for criterion in criteria]

    def advance(self) -> Iterator[StepLosses]:
        """Train, and yield the losses of each step."""
        recipe = self.recipe
        now = recipe.first_state()
        for step in range(recipe.steps):
            tokens, before, evaluate = recipe.tokens(step), now, recipe.evaluates(step)
            now = _advanced(self.truth, before, tokens, evaluate)
            for run in self._runs:
                run.advance(before, now, tokens, evaluate)
            validation = self._losses(now, VALIDATION) if evaluate else {}
            difference = next((run.difference() for run in self._runs if run.paths), None)
            self.steps.append(StepLosses(step + 1, self._losses(now, LOSS), validation, difference))
            yield self.steps[-1]

    def _losses(self, truth: State, name: str) -> Losses:
        ports = {f"jax {run.criterion.dtype}": float(run.states.port[name]) for run in self._runs}
        return {"torch": float(truth[name])} | ports


def _advanced(trainer: Any, state: State, tokens: np.ndarray, evaluate: bool, *moves: Any) -> State:
    """Return the state after one step, with the loss on held-out text if it is taken."""
    new = trainer.step(state, tokens, *moves)
    return new | trainer.validation(new) if evaluate else new


class _States(NamedTuple):
    """The states of the port, of torch's own float32 paths, and of the truth that is moved."""

    port: State
    own: Sequence[State]
    moved: Sequence[State]


class _CheckRuns:
    """All runs beside the truth in one dtype."""

    def __init__(self, whole: Lockstep, criterion: Criterion, port: Port) -> None:
        recipe = whole.recipe
        self.whole, self.criterion = whole, criterion
        self.trainer = port(recipe, criterion.dtype)
        self.paths: list[TorchTrainer] = []
        if criterion.dtype == "float32":
            self.paths = [TorchTrainer(recipe, "float32"), TorchTrainer(recipe, "float32", torch.nn.LSTM)]
        self.states = self._from(recipe.first_state())
        self.probe = PROBE[criterion.dtype]
        self.rng = np.random.default_rng([recipe.seed, 3, STREAMS[criterion.dtype]])

    def advance(self, before: State, now: State, tokens: np.ndarray, evaluate: bool) -> None:
        """Make one step of all trajectories, and one from the truth's state ``before``, after which it is ``now``."""
        self.states = self._step(self.states, tokens, evaluate)
        self._record(self.criterion.check, now, self.states)
        self._record(single_step(self.criterion.dtype), now, self._step(self._from(before), tokens, evaluate))

    def difference(self) -> float:
        """Return the largest relative difference of the two frameworks' float32 parameters."""
        ours, theirs = self.states.port, self.states.own[0]
        names = self.whole.recipe.parameters
        return float(np.max([distance(ours[n], theirs[n])[0] / size(theirs[n])[0] for n in names]))

    def _from(self, state: State) -> _States:
        return _States(state, [state] * len(self.paths), [state] * DRAWS)

    def _step(self, states: _States, tokens: np.ndarray, evaluate: bool) -> _States:
        port = _advanced(self.trainer, states.port, tokens, evaluate)
        own = [_advanced(path, state, tokens, evaluate) for path, state in zip(self.paths, states.own, strict=True)]
        start = lambda state: nudged(state, self.rng, self.probe)
        truth = self.whole.truth
        moved = [_advanced(truth, start(state), tokens, evaluate, *self._moves()) for state in states.moved]
        return _States(port, own, moved)

    def _moves(self) -> tuple[float, Callable[[float], float] | None]:
        """Return the factor of the loss, and what moves the optimizer's constants. Only float32 rounds these."""
        return self._off(1.0), self._off if self.criterion.dtype == "float32" else None

    def _off(self, value: float) -> float:
        return value * (1 + self.probe * self.rng.choice((-1.0, 1.0)))

    def _record(self, check: Check, truth: State, states: _States) -> None:
        for name in self.whole.quantities:
            if name in truth:
                value = truth[name]
                error = distance(states.port[name], value)
                response = np.max([distance(moved[name], value) for moved in states.moved], axis=0) / self.probe
                own_error = np.max([np.zeros(2), *(distance(own[name], value) for own in states.own)], axis=0)
                series = self.whole.errors.setdefault((check, name), ErrorSeries(max(value.size, 1)))
                series.append(size(value), error, response, own_error)
