"""A recurrent network under test: the check of its inputs, stand-ins for what cannot be decided, and the diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from crosscheck.core.conditioning import Reference, is_chaotic
from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.finding import Finding, Kind
from crosscheck.core.judge import Run, StandIn
from crosscheck.core.problem import Problem, Results
from crosscheck.diagnosis.disagreement import diagnose
from crosscheck.diagnosis.inputs import check_inputs
from crosscheck.diagnosis.subject import Subject
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.damping import damped
from crosscheck.lstm.teacher_forcing import SIZES, teacher_forced

Measure: TypeAlias = Callable[[RecurrentCase, Problem], Reference]
Runner: TypeAlias = Callable[[RecurrentCase], Run]
Measured: TypeAlias = tuple[RecurrentCase, Problem, Reference]


@dataclass(frozen=True)
class Network:
    """A recurrent network and a problem. What several implementations need is computed once, when first needed.

    Attributes:
      case: the network.
      problem: the problem.
      measure: measures the reference of another problem of the network.
      stateless: whether the implementation takes no initial states. They are then zero.
    """

    case: RecurrentCase
    problem: Problem
    measure: Measure
    stateless: bool = False

    @cached_property
    def input_findings(self) -> tuple[Finding, ...]:
        """What the check of the inputs found."""
        return check_inputs(self.case, self.problem, self.stateless)

    @cached_property
    def _teacher_forced(self) -> list[Measured]:
        """Stretches of the sequence that start from the reference's states."""
        forced = [teacher_forced(self.case, self.problem, size) for size in SIZES if size <= self.case.steps]
        return [(case, problem, self.measure(case, problem)) for case, problem in forced]

    @cached_property
    def _damped(self) -> Measured | None:
        """The whole sequence with recurrent weights that leave it decidable; None if there are none."""
        references: list[Reference] = []

        def is_undecided(problem: Problem) -> bool:
            references.append(self.measure(self.case, problem))
            return is_chaotic(references[-1])

        problem = damped(self.problem, is_undecided)
        return None if problem is None else (self.case, problem, references[-1])

    def stand_ins(
        self,
        runner: Runner,
        chaotic: bool,
        criteria: Callable[[RecurrentCase], tuple[Criterion, ...]] = lambda case: tuple(CRITERIA.values()),
    ) -> list[StandIn]:
        """Return the stand-ins for one implementation.

        Args:
          runner: gives its run for a case of the network.
          chaotic: whether the float64 check is in doubt too. Then positions in the whole sequence need a damped
            stand-in. If there is no damped stand-in, there are no stand-ins at all.
          criteria: the precision checks for a case.
        """

        def stand_in(kind: Kind, measured: Measured, *dtypes: str, steps: int = 0) -> StandIn:
            case, problem, reference = measured

            def run(problem: Problem, dtype: str) -> Results:
                return runner(case)(problem, dtype)  # it may refuse a case of other sizes, so not before it runs

            checks = tuple(c for c in criteria(case) if c.dtype in dtypes)
            return StandIn(kind, problem, reference, run, checks, steps)

        forced = [stand_in(Kind.TEACHER_FORCED, m, *CRITERIA, steps=m[0].steps) for m in self._teacher_forced]
        if not chaotic:
            return forced
        return [] if self._damped is None else [*forced, stand_in(Kind.DAMPED, self._damped, "float64")]

    def explain(self, runner: Runner, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Return the lines of the diagnosis of an implementation."""
        return diagnose(Subject(self.case, self.problem, runner, self.stateless), findings).lines
