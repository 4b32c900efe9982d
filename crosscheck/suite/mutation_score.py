"""The kill score: every fault of the catalogue against the verdict, and the verdict against what is right.

A fault is killed in a case if the verdict is "disagree", and killed if it is so in every case that it applies to. A
right implementation raises a false alarm where its verdict is anything but "agree". Rules in use elsewhere judge the same
results, and mutants of the comparer show that the score itself can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from crosscheck.core.finding import Outcome, worst
from crosscheck.core.judge import run_checks
from crosscheck.core.problem import Results
from crosscheck.core.processes import run_all
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.libraries import STANDARD
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.suite.fault_cases import bench_cases, random_cases
from crosscheck.suite.measured_case import MeasuredCase, criteria_of, is_truth, measure_case
from crosscheck.suite.mutants import MUTANTS, Recorded, Trial
from crosscheck.suite.tolerance_rules import RULES

RANDOM = {True: 8, False: 104}  # quick or not
CHUNK = 8


@dataclass(frozen=True)
class Trials:
    """What one task found, by (case, name, kind); a right implementation is of kind "right".

    judged: outcomes. passed: the rules that let it pass. weakest: the largest error in units of its limit. noticed: by
    mutant, how the score showed it, "" where it did not.
    """

    judged: dict[tuple[str, str, str], Outcome] = field(default_factory=dict)
    passed: dict[tuple[str, str, str], frozenset[str]] = field(default_factory=dict)
    weakest: dict[tuple[str, str, str], float] = field(default_factory=dict)
    noticed: dict[str, str] = field(default_factory=dict)


def tasks(quick: bool) -> dict[str, Callable[[], Trials]]:
    """Independent pieces of work by what they try, the longest ones first."""
    cases = bench_cases(quick)
    names = list(FAULTS)
    found: dict[str, Callable[[], Trials]] = {"broken comparers": partial(try_mutants, cases[0])}
    for case in reversed(cases):
        for n in range(0, len(names), CHUNK):
            chunk = names[n : n + CHUNK]
            found[f"{chunk[0]} and others in {case.name}"] = partial(try_faults, case, chunk)
    for case in cases:
        found[f"right sides of {case.name}"] = partial(try_right, [case], True)
    configurations = list(random_cases(RANDOM[quick]))
    for n in range(0, len(configurations), 4):
        some = configurations[n : n + 4]
        found[f"right sides of {some[0].name} and others"] = partial(try_right, some, False)
    return found


def run_tasks(
    work: Mapping[str, Callable[[], Trials]], jobs: int, begins: Callable[[str], None] = lambda name: None
) -> Iterator[tuple[str, Trials]]:
    """The names and results of tasks as they end, in ``jobs`` processes or, with one, here."""
    return run_all(work, jobs, begins)


@lru_cache(maxsize=8)
def _measured(case: RecurrentCase) -> MeasuredCase:
    return measure_case(case)


@lru_cache(maxsize=8)
def _reference32(case: RecurrentCase) -> Results:
    """What the rules compare with: torch.nn.LSTM in float32 as it comes."""
    return STANDARD["torch.nn.LSTM"].runner(case)(case.problem, "float32")


def try_faults(case: RecurrentCase, names: Sequence[str]) -> Trials:
    trials = Trials()
    for fault in (FAULTS[name] for name in names):
        if fault.applies(case):
            recorded = Recorded(faulty.runner(fault, case))
            findings = run_checks(case.problem, _measured(case).reference, recorded)
            key = (case.name, fault.name, fault.kind)
            trials.judged[key] = worst(f.final for f in findings)
            trials.weakest[key] = max((f.ratio for f in findings if f.final is Outcome.DISAGREE), default=0.0)
            trials.passed[key] = _passed(case, recorded(case.problem, "float32"))
    return trials


def try_right(cases: Sequence[RecurrentCase], rules: bool) -> Trials:
    """Every implementation on every case; all of them are right."""
    trials = Trials()
    for case in cases:
        measured = _measured(case)
        for implementation in STANDARD.values():
            recorded = Recorded(implementation.runner(case))
            criteria, truth = criteria_of(implementation, case), is_truth(implementation, case)
            findings = run_checks(case.problem, measured.reference, recorded, criteria, is_truth=truth)
            key = (case.name, implementation.name, "right")
            trials.judged[key] = worst(f.final for f in (*measured.input_findings, *findings))
            if rules:
                trials.passed[key] = _passed(case, recorded(case.problem, "float32"))
    return trials


def try_mutants(case: RecurrentCase) -> Trials:
    """Does the score show that the comparer is broken?"""
    faults = [fault for fault in FAULTS.values() if fault.applies(case)]
    trial = Trial(
        case,
        {fault.name: Recorded(faulty.runner(fault, case)) for fault in faults},
        {
            implementation.name: Recorded(implementation.runner(case))
            for implementation in STANDARD.values()
            if implementation.name != "torch.nn.LSTM"
        },
    )
    return Trials(noticed={name: mutant.notice(trial) for name, mutant in MUTANTS.items()})


def _passed(case: RecurrentCase, results: Results) -> frozenset[str]:
    reference = _reference32(case)
    with np.errstate(invalid="ignore", over="ignore"):
        return frozenset(name for name, rule in RULES.items() if rule.passes(results, reference, case.problem))


def _alive(tried: Sequence[tuple[str, Outcome]]) -> list[str]:
    return [f"{case}: {outcome}" for case, outcome in sorted(tried) if outcome is not Outcome.DISAGREE]


@dataclass(frozen=True)
class Score:
    """All trials together."""

    trials: Sequence[Trials]

    def _all(self, what: str) -> dict:
        return {key: value for trials in self.trials for key, value in getattr(trials, what).items()}

    @property
    def faults(self) -> dict[str, list[tuple[str, Outcome]]]:
        """Fault -> outcome in each case that it applies to."""
        found: dict[str, list[tuple[str, Outcome]]] = {name: [] for name in FAULTS}
        for (case, name, kind), outcome in self._all("judged").items():
            if kind != "right":
                found[name].append((case, outcome))
        return found

    @property
    def survivors(self) -> dict[str, list[str]]:
        """Fault -> where it lived on; one that was tried nowhere is a survivor too."""
        lived = {name: _alive(tried) for name, tried in self.faults.items()}
        return {name: where or ["tried in no case"] for name, where in lived.items() if where or not self.faults[name]}

    @property
    def right(self) -> dict[tuple[str, str], Outcome]:
        return {(case, name): o for (case, name, kind), o in self._all("judged").items() if kind == "right"}

    @property
    def false_alarms(self) -> dict[tuple[str, str], Outcome]:
        return {key: outcome for key, outcome in sorted(self.right.items()) if outcome is not Outcome.AGREE}

    @property
    def unnoticed(self) -> list[str]:
        return [name for name, how in self._all("noticed").items() if not how]

    @property
    def noticed(self) -> dict[str, str]:
        return self._all("noticed")

    @property
    def weakest(self) -> tuple[str, str, float]:
        """(case, fault, error over limit) of the fault that was hardest to see."""
        found = self._all("weakest")
        key = min((key for key in found if found[key] > 0), key=lambda key: (found[key], key))
        return key[0], key[1], found[key]

    def killed_by_rule(self, rule: str, case: str, kind: str) -> tuple[int, int]:
        """(rejected, tried) of the faults of a kind, or of the right sides, in a case."""
        passed = [value for (c, _, k), value in self._all("passed").items() if (c, k) == (case, kind)]
        return sum(rule not in value for value in passed), len(passed)

    @property
    def ok(self) -> bool:
        return not (self.survivors or self.false_alarms or self.unnoticed)
