"""The mutation score: a table, sentences and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from crosscheck.core.environment import describe_environment
from crosscheck.core.finding import Outcome
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Wrong
from crosscheck.report.table import Table
from crosscheck.report.terminal import say, show
from crosscheck.suite.fault_cases import fixed_cases
from crosscheck.suite.mutants import MUTANTS
from crosscheck.suite.mutation_score import Score
from crosscheck.suite.tolerance_rules import RULES


def print_score(score: Score, quick: bool, console: Console) -> None:
    """Print how many mistakes are seen, by which rules, and the verdict."""
    cases = [case.name for case in fixed_cases(quick)]
    show(console, rules_table(score, cases))
    weakest = score.weakest
    say(console, f"hardest to see: {weakest.name} in case {weakest.case}, still {weakest.ratio:.3g} times its limit")
    for name, how in sorted(score.noticed.items()):
        noticed = f"noticed: {how}" if how else "NOT NOTICED"
        say(console, f"broken comparer, {MUTANTS[name].description}: {noticed}")
    verdicts = Counter(trial.name for trial in score.right)
    counts = ", ".join(f"{name} {number}" for name, number in sorted(verdicts.items()))
    say(console, f"verdicts on right implementations: {counts}")
    console.print()
    for name, where in score.survivors.items():
        say(console, f"survivor: {name} ({FAULTS[name].description}): {'; '.join(where)}", "red")
    for alarm in score.false_alarms:
        say(console, f"false alarm: {alarm.name} in case {alarm.case}: {alarm.outcome}", "red")
    configurations = {trial.case for trial in score.right} - {*cases}
    killed = f"killed {len(FAULTS) - len(score.survivors)} of {len(FAULTS)} faults"
    alarms = f"{len(score.false_alarms)} false alarms in {len(score.right)} verdicts on right implementations"
    mutants = f"{len(MUTANTS) - len(score.unnoticed)} of {len(MUTANTS)} broken comparers noticed"
    line = f"{killed}; {alarms}, {len(configurations)} random configurations among them; {mutants}: "
    say(console, line + ("ok" if score.ok else "NOT ok"), "green" if score.ok else "red")


def rules_table(score: Score, cases: Sequence[str]) -> Table:
    """Return how many faults and right implementations each rule rejects, with one row per case and kind."""
    rows = []
    for case in cases:
        for n, kind in enumerate(Wrong):
            counts = (score.rejected(case, kind), *(score.rejected_by_rule(rule, case, kind) for rule in RULES))
            words = "right implementations" if kind is Wrong.NOTHING else f"faults of {kind}"
            rows.append(("" if n else case, words, *(f"{rejected} / {tried}" for rejected, tried in counts)))
    rules = ("crosscheck", *RULES)
    return Table("", ("rejected, of tried", "", *rules), tuple(rows), numeric=rules, keys=2)


def to_json(score: Score, quick: bool, seconds: float) -> dict[str, Any]:
    """Return the score, every verdict on a fault, and what the rules say of the same results."""
    cases = [case.name for case in fixed_cases(quick)]
    return {
        "ok": score.ok,
        "verdict": str(Outcome.AGREE if score.ok else Outcome.DISAGREE),
        "faults": [
            {
                "name": name,
                "description": FAULTS[name].description,
                "kind": FAULTS[name].kind,
                "killed": name not in score.survivors,
                "outcomes": dict(sorted((trial.case, str(trial.outcome)) for trial in tried)),
            }
            for name, tried in score.faults.items()
        ],
        "survivors": score.survivors,
        "false_alarms": [
            {"case": alarm.case, "implementation": alarm.name, "verdict": str(alarm.outcome)}
            for alarm in score.false_alarms
        ],
        "right_verdicts": len(score.right),
        "rules": {rule: {case: _rule_to_json(score, rule, case) for case in cases} for rule in RULES},
        "mutants": dict(sorted(score.noticed.items())),
        "seconds": round(seconds, 1),
        "environment": describe_environment(),
    }


def _rule_to_json(score: Score, rule: str, case: str) -> dict[str, dict[str, int]]:
    counts = {kind: score.rejected_by_rule(rule, case, kind) for kind in Wrong}
    return {str(kind): {"rejected": rejected, "tried": tried} for kind, (rejected, tried) in counts.items()}
