"""The procedure behind the suite and `crosscheck.check`: precision checks, check of the inputs, diagnosis, verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.environment import describe_environment
from crosscheck.core.finding import Finding, Kind
from crosscheck.core.judge import Run, StandIn, StandIns, no_stand_ins, run_checks
from crosscheck.core.problem import Problem, Results
from crosscheck.core.reference import Reference, is_chaotic
from crosscheck.core.verdict import Verdict
from crosscheck.diagnosis.causes import likely_cause
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.teacher_forcing import SIZES, damped, teacher_forced

Explain: TypeAlias = Callable[[Sequence[Finding]], tuple[str, ...]]
Measure: TypeAlias = Callable[[RecurrentCase, Problem], Reference]


def no_explanation(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return no lines of diagnosis."""
    return ()


def assess(
    problem: Problem,
    reference: Reference,
    run: Run,
    *,
    criteria: Iterable[Criterion] = tuple(CRITERIA.values()),
    stand_ins: StandIns = no_stand_ins,
    is_truth: bool = False,
    input_findings: Sequence[Finding] = (),
    explain: Explain = no_explanation,
    notes: Sequence[str] = (),
) -> Verdict:
    """Return the verdict on one implementation.

    Args:
      problem, reference, run, criteria, stand_ins, is_truth: as in `crosscheck.core.judge.run_checks`.
      input_findings: what the check of the inputs found.
      explain: returns the lines of the diagnosis.
      notes: sentences that a reader of the verdict must know.
    """
    findings = (*input_findings, *run_checks(problem, reference, run, criteria, stand_ins, is_truth))
    lines = explain(findings)
    cause = likely_cause(findings, reference)
    return Verdict(findings, tuple(notes), cause, lines, describe_environment())


def _run(runner: Callable[[RecurrentCase], Run], case: RecurrentCase, problem: Problem, dtype: str) -> Results:
    """Make the runner when it runs, since an implementation may refuse a case of other sizes."""
    return runner(case)(problem, dtype)


@dataclass(frozen=True)
class Substitute:
    """A problem that stands in for one that cannot be decided, and its case and reference."""

    kind: Kind
    case: RecurrentCase
    problem: Problem
    reference: Reference


@dataclass(frozen=True)
class Substitutes:
    """The stand-ins of one problem of a recurrent network. Each is measured once, when it is first needed.

    Attributes:
      case: the network.
      problem: the problem.
      measure: measures the reference of another problem of the network.
    """

    case: RecurrentCase
    problem: Problem
    measure: Measure

    @cached_property
    def teacher_forced(self) -> list[Substitute]:
        """Stretches of the sequence that start from the reference's states."""
        forced = [teacher_forced(self.case, self.problem, size) for size in SIZES if size <= self.case.steps]
        return [Substitute(Kind.TEACHER_FORCED, case, problem, self.measure(case, problem)) for case, problem in forced]

    @cached_property
    def damped(self) -> Substitute | None:
        """The whole sequence with recurrent weights that leave it decidable; None if there are none."""
        references: list[Reference] = []

        def is_undecided(problem: Problem) -> bool:
            references.append(self.measure(self.case, problem))
            return is_chaotic(references[-1])

        problem = damped(self.problem, is_undecided)
        return None if problem is None else Substitute(Kind.DAMPED, self.case, problem, references[-1])

    def stand_ins(
        self,
        runner: Callable[[RecurrentCase], Run],
        chaotic: bool,
        criteria: Callable[[RecurrentCase], tuple[Criterion, ...]] = lambda case: tuple(CRITERIA.values()),
    ) -> list[StandIn]:
        """Return the stand-ins for one implementation.

        Args:
          runner: gives its run for a case of the network.
          chaotic: the float64 check is in doubt too. Then positions in the whole sequence need a damped stand-in; if
            there is none, nothing stands in.
          criteria: the precision checks for a case.
        """
        stand_ins = [
            StandIn(s.kind, s.problem, s.reference, partial(_run, runner, s.case), criteria(s.case), s.case.steps)
            for s in self.teacher_forced
        ]
        if chaotic:
            if self.damped is None:
                return []
            exact = tuple(c for c in criteria(self.case) if c.dtype == "float64")
            run = runner(self.case)
            stand_ins.append(StandIn(Kind.DAMPED, self.damped.problem, self.damped.reference, run, exact))
        return stand_ins
