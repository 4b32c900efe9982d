"""Both trainings and all that their limits are made of, side by side, one step at a time.

What runs in lockstep: the truth, which is torch in float64; in each lane the port from the first weights on (lane "A"
or "B") and, from the truth's own state at every step, one step of it ("A 1-step"); beside each of them the truth with
every number of its state and its loss moved up or down at random at every step, three times; and in lane B, with the
optimizer's constants moved too, torch's own float32 paths. Only norms are kept, two numbers a step for each quantity.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

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
    parameters,
    size,
)

PROBE = {"float64": 2.0**-40, "float32": U32}  # far over float64's rounding, and small enough to be amplified linearly
_EXACT = replace(CRITERIA["float64"], chaos=PROBE["float64"])  # a probe that grew past 1e-3 measures no condition
TRAJECTORIES = (_EXACT, CRITERIA["float32"])
STREAMS = {"float64": 65, "float32": 66}  # of random numbers
Port = Callable[[Recipe, str], JaxTrainer]


TRAINING_STEP = Scope("step", "training step", in_order=True)


def single_step(dtype: Precision) -> Check:
    """Each step of a training by itself, from the truth's state."""
    return Check(dtype, Kind.TEACHER_FORCED, 1)


class Series:
    """[2 norms] a step, 16 bytes each."""

    def __init__(self):
        self._numbers = array("d")

    def append(self, norms: np.ndarray) -> None:
        self._numbers.extend(norms)

    def rows(self) -> np.ndarray:
        """[2, steps]."""
        return np.array(self._numbers).reshape(-1, 2).T


@dataclass
class Records:
    """Of one quantity in one lane, at every step. numbers: how many it has; responses are per relative rounding."""

    numbers: int
    size: Series = field(default_factory=Series)
    error: Series = field(default_factory=Series)
    response: Series = field(default_factory=Series)
    own_error: Series = field(default_factory=Series)

    def conditioning(self) -> Conditioning:
        sizes, response = self.size.rows(), self.response.rows()
        condition, own = (
            np.divide(a, sizes, out=np.zeros_like(sizes), where=sizes > 0) for a in (response, self.own_error.rows())
        )
        smooth = (over_neighbours(a, TRAINING_STEP, self.numbers) for a in (condition, own))
        return Conditioning(sizes, next(smooth), response, next(smooth), self.numbers)


@dataclass(frozen=True)
class Moment:
    """What one step showed: losses by side, and in float32 how far the two frameworks' parameters are apart."""

    step: int
    losses: dict[str, float]
    validation: dict[str, float]
    apart: float | None


class Lockstep:
    """Runs a recipe; ``records`` by (check, quantity) and ``moments`` grow with each step that `advance` gives out."""

    def __init__(self, recipe: Recipe, criteria: tuple[Criterion, ...] = TRAJECTORIES, port: Port = JaxTrainer):
        self.recipe, self.criteria = recipe, criteria
        self.truth = TorchTrainer(recipe, "float64")
        self.records: dict[tuple[Check, str], Records] = {}
        self.moments: list[Moment] = []
        self.quantities = recipe.algorithm.quantities(recipe.weights())
        self._runs = [_CheckRuns(self, criterion, port) for criterion in criteria]

    def advance(self) -> Iterator[Moment]:
        recipe = self.recipe
        now = first_state(recipe.weights(), recipe.algorithm)
        for step in range(recipe.steps):
            tokens, before = recipe.tokens(step), now
            now = self.truth.step(before, tokens)
            evaluated = self.truth.validation(now) if recipe.evaluates(step) else {}
            losses, validation = {"torch": float(now[LOSS])}, {name: float(a) for name, a in evaluated.items()}
            validation = {"torch": validation[VALIDATION]} if validation else {}
            for run in self._runs:
                run.advance(before, now | evaluated, tokens, bool(evaluated))
                losses |= {run.label: float(run.port[LOSS])}
                validation |= {run.label: float(run.port[VALIDATION])} if evaluated else {}
            apart = next((run.apart() for run in self._runs if run.paths), None)
            self.moments.append(Moment(step, losses, validation, apart))
            yield self.moments[-1]

    def compared(self, state: State) -> Iterator[tuple[str, np.ndarray]]:
        """The truth's quantities in the order in which they are reported; parameters before what is kept of them."""
        for name in (LOSS, VALIDATION, GRADIENT_NORM, *parameters(state), *self.quantities):
            if name in state:
                yield name, state[name]


class _CheckRuns:
    """What runs beside the truth in one criterion."""

    def __init__(self, whole: Lockstep, criterion: Criterion, port: Port):
        recipe = whole.recipe
        self.whole, self.criterion, self.label = whole, criterion, f"jax {criterion.dtype}"
        self.trainer = port(recipe, criterion.dtype)
        self.paths: list[TorchTrainer] = []
        if criterion.dtype == "float32":
            self.paths = [TorchTrainer(recipe, "float32"), TorchTrainer(recipe, "float32", torch.nn.LSTM)]
        start = first_state(recipe.weights(), recipe.algorithm)
        self.port, self.own = start, [start for _ in self.paths]
        self.moved = [start for _ in range(DRAWS)]
        self.rng = np.random.default_rng([recipe.seed, 3, STREAMS[criterion.dtype]])

    def advance(self, before: State, now: State, tokens: np.ndarray, evaluate: bool) -> None:
        """One step of everything, free and from the truth's state ``before``; ``now`` is the truth after it."""
        truth = self.whole.truth
        self.port = self._stepped(self.trainer, self.port, tokens, evaluate)
        self.own = [self._stepped(p, state, tokens, evaluate) for p, state in zip(self.paths, self.own, strict=True)]
        self.moved = [self._stepped(truth, self._nudged(s), tokens, evaluate, *self._moves()) for s in self.moved]
        self._record(self.criterion.check, now, self.port, self.own, self.moved)
        single = self._stepped(self.trainer, before, tokens, evaluate)
        own = [self._stepped(path, before, tokens, evaluate) for path in self.paths]
        moved = [self._stepped(truth, self._nudged(before), tokens, evaluate, *self._moves()) for _ in range(DRAWS)]
        self._record(single_step(self.criterion.dtype), now, single, own, moved)

    def apart(self) -> float:
        """How far the two frameworks' float32 parameters are from one another, relative, at worst."""
        ours, theirs = self.port, self.own[0]
        return float(np.max([distance(ours[n], theirs[n])[0] / size(theirs[n])[0] for n in parameters(ours)]))

    def _moves(self):
        """Of the loss; and in float32, which rounds them, of the optimizer's constants: in float64 both sides have
        the same."""
        return self._off(1.0), self._off if self.criterion.dtype == "float32" else None

    def _stepped(self, trainer, state, tokens, evaluate, *moves) -> State:
        new = trainer.step(state, tokens, *moves)
        return new | trainer.validation(new) if evaluate else new

    def _nudged(self, state):
        return nudged(state, self.rng, PROBE[self.criterion.dtype])

    def _off(self, value):
        return value * (1 + PROBE[self.criterion.dtype] * self.rng.choice((-1.0, 1.0)))

    def _record(self, check, truth, port, own, moved) -> None:
        for name, value in self.whole.compared(truth):
            kept = self.whole.records.setdefault((check, name), Records(max(value.size, 1)))
            kept.size.append(size(value))
            kept.error.append(distance(port[name], value))
            kept.response.append(
                np.max([distance(m[name], value) for m in moved], axis=0) / PROBE[self.criterion.dtype]
            )
            kept.own_error.append(np.max([np.zeros(2), *(distance(o[name], value) for o in own)], axis=0))
