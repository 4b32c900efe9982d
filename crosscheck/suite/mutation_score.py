"""The mutation score: the verdict on every fault of the catalogue, and on programs that are right.

A fault is killed if the verdict is "disagree" in every case to which it applies. A right implementation raises a false
alarm if its verdict is not "agree". Rules in use elsewhere judge the same results, and mutants of the comparer show
that the score itself can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial

import numpy as np

from crosscheck.core.finding import Outcome, worst
from crosscheck.core.judge import run_checks
from crosscheck.core.problem import Results
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Wrong
from crosscheck.libraries import STANDARD, NotInstalled, NotSupported, implementations_named
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.suite.fault_cases import fixed_cases, random_cases
from crosscheck.suite.measured_case import MeasuredCase, criteria_of, is_truth, measure_case
from crosscheck.suite.mutants import MUTANTS, Programs, Recorded
from crosscheck.suite.runs import SUITE
from crosscheck.suite.tolerance_rules import RULES

RANDOM = {True: 8, False: 104}  # quick or not
CHUNK = 8


@dataclass(frozen=True)
class Trial:
    """One program on one case.

    Attributes:
      case: the case.
      name: the fault, or the implementation.
      kind: what is wrong in the program.
      outcome: the verdict.
      passed_rules: the rules that let it pass; None if no rule was asked.
      ratio: the largest error of a disagreement, in units of its limit.
    """

    case: str
    name: str
    kind: Wrong
    outcome: Outcome
    passed_rules: frozenset[str] | None = None
    ratio: float = 0.0


@dataclass(frozen=True)
class TaskResult:
    """What one task returns.

    Attributes:
      trials: the programs that were judged.
      noticed: how the score shows each mutant; "" if it does not.
    """

    trials: list[Trial] = field(default_factory=list)
    noticed: dict[str, str] = field(default_factory=dict)


def tasks(quick: bool) -> dict[str, Callable[[], TaskResult]]:
    """Return independent pieces of work by what they try, the longest ones first."""
    cases = fixed_cases(quick)
    names = list(FAULTS)
    work: dict[str, Callable[[], TaskResult]] = {"broken comparers": partial(try_mutants, cases[0])}
    for case in reversed(cases):
        for n in range(0, len(names), CHUNK):
            chunk = names[n : n + CHUNK]
            work[f"{chunk[0]} and others in {case.name}"] = partial(try_faults, case, chunk)
    for case in cases:
        work[f"right implementations of {case.name}"] = partial(try_right, [case], True)
    configurations = list(random_cases(RANDOM[quick]))
    for n in range(0, len(configurations), 4):
        some = configurations[n : n + 4]
        work[f"right implementations of {some[0].name} and others"] = partial(try_right, some, False)
    return work


@lru_cache(maxsize=8)
def _measured(case: RecurrentCase) -> MeasuredCase:
    return measure_case(case)


@lru_cache(maxsize=8)
def _reference32(case: RecurrentCase) -> Results:
    """Return what the rules compare with: torch.nn.LSTM in float32."""
    return STANDARD["torch.nn.LSTM"].runner(case)(case.problem, "float32")


def try_faults(case: RecurrentCase, names: Sequence[str]) -> TaskResult:
    """Judge the named faults that apply to a case."""
    result = TaskResult()
    for fault in (FAULTS[name] for name in names):
        if fault.applies(case):
            recorded = Recorded(faulty.runner(fault, case))
            findings = run_checks(case.problem, _measured(case).reference, recorded)
            ratio = max((f.ratio for f in findings if f.final is Outcome.DISAGREE), default=0.0)
            outcome, passed = worst(f.final for f in findings), _passed_rules(case, recorded)
            result.trials.append(Trial(case.name, fault.name, fault.kind, outcome, passed, ratio))
    return result


def try_right(cases: Sequence[RecurrentCase], rules: bool) -> TaskResult:
    """Judge the implementations of the standard suite on every case that they can run. All of them are right."""
    result = TaskResult()
    for case in cases:
        measured = _measured(case)
        for implementation in implementations_named(SUITE):
            try:
                recorded = Recorded(implementation.runner(case))
            except (NotSupported, NotInstalled):
                continue
            criteria, truth = criteria_of(implementation, case), is_truth(implementation, case)
            findings = run_checks(case.problem, measured.reference, recorded, criteria, is_truth=truth)
            outcome = worst(f.final for f in (*measured.input_findings, *findings))
            passed = _passed_rules(case, recorded) if rules else None
            result.trials.append(Trial(case.name, implementation.name, Wrong.NOTHING, outcome, passed))
    return result


def try_mutants(case: RecurrentCase) -> TaskResult:
    """Let every mutant of the comparer judge the faults and the right implementations."""
    faults = [fault for fault in FAULTS.values() if fault.applies(case)]
    right = [implementation for name, implementation in STANDARD.items() if name != "torch.nn.LSTM"]
    programs = Programs(
        case,
        {fault.name: Recorded(faulty.runner(fault, case)) for fault in faults},
        {implementation.name: Recorded(implementation.runner(case)) for implementation in right},
    )
    return TaskResult(noticed={name: mutant.notice(programs) for name, mutant in MUTANTS.items()})


def _passed_rules(case: RecurrentCase, run: Recorded) -> frozenset[str]:
    results, reference = run(case.problem, "float32"), _reference32(case)
    with np.errstate(invalid="ignore", over="ignore"):
        return frozenset(name for name, rule in RULES.items() if rule.passes(results, reference, case.problem))


@dataclass(frozen=True)
class Score:
    """The results of all tasks."""

    results: Sequence[TaskResult]

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials."""
        return [trial for result in self.results for trial in result.trials]

    @property
    def faults(self) -> dict[str, list[Trial]]:
        """The trials of each fault, one per case to which it applies."""
        trials: dict[str, list[Trial]] = {name: [] for name in FAULTS}
        for trial in self.trials:
            if trial.kind is not Wrong.NOTHING:
                trials[trial.name].append(trial)
        return trials

    @property
    def survivors(self) -> dict[str, list[str]]:
        """Per fault that survived, the cases and their outcomes. A fault that ran in no case is a survivor too."""
        survivors = {}
        for name, trials in self.faults.items():
            alive = sorted((t.case, t.outcome) for t in trials if t.outcome is not Outcome.DISAGREE)
            if alive or not trials:
                survivors[name] = [f"{case}: {outcome}" for case, outcome in alive] or ["tried in no case"]
        return survivors

    @property
    def right(self) -> list[Trial]:
        """The trials of right implementations."""
        return [trial for trial in self.trials if trial.kind is Wrong.NOTHING]

    @property
    def false_alarms(self) -> list[Trial]:
        """The right implementations that do not agree."""
        alarms = (trial for trial in self.right if trial.outcome is not Outcome.AGREE)
        return sorted(alarms, key=lambda trial: (trial.case, trial.name))

    @property
    def noticed(self) -> dict[str, str]:
        """How the score shows each mutant; "" if it does not."""
        return {name: how for result in self.results for name, how in result.noticed.items()}

    @property
    def unnoticed(self) -> list[str]:
        """The mutants that the score does not show."""
        return [name for name, how in self.noticed.items() if not how]

    @property
    def weakest(self) -> Trial:
        """The fault that is hardest to see: its error is nearest to its limit."""
        return min((t for t in self.trials if t.ratio > 0), key=lambda t: (t.ratio, t.case, t.name))

    def rejected(self, case: str, kind: Wrong) -> tuple[int, int]:
        """Return (rejected, tried): how many programs of a kind the verdict rejects in a case."""
        outcomes = [trial.outcome for trial in self.trials if (trial.case, trial.kind) == (case, kind)]
        if kind is Wrong.NOTHING:
            return sum(outcome is not Outcome.AGREE for outcome in outcomes), len(outcomes)
        return outcomes.count(Outcome.DISAGREE), len(outcomes)

    def rejected_by_rule(self, rule: str, case: str, kind: Wrong) -> tuple[int, int]:
        """Return (rejected, tried): how many programs of a kind a rule rejects in a case."""
        trials = [trial for trial in self.trials if (trial.case, trial.kind) == (case, kind)]
        passed = [trial.passed_rules for trial in trials if trial.passed_rules is not None]
        return sum(rule not in rules for rules in passed), len(passed)

    @property
    def ok(self) -> bool:
        """Whether every fault is killed, no alarm is false and every mutant is noticed."""
        return not (self.survivors or self.false_alarms or self.unnoticed)
