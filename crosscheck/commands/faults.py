"""``crosscheck faults``: does the verdict see every known mistake, and nothing else?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from crosscheck.commands.common import check_json_file, write_json_file
from crosscheck.commands.failures import failures_in_one_line
from crosscheck.commands.progress import progress
from crosscheck.core.environment import describe_environment
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Wrong
from crosscheck.report.terminal import new_table, output, say, show
from crosscheck.suite.fault_cases import fixed_cases
from crosscheck.suite.mutants import MUTANTS
from crosscheck.suite.mutation_score import Score, run_tasks, tasks
from crosscheck.suite.tolerance_rules import RULES


def run(quick: bool, list_faults: bool, jobs: int, json_file: Path | None) -> None:
    """Measure the mutation score, print it and exit."""
    console = output()
    if list_faults:
        for fault in FAULTS.values():
            say(console, f"{fault.name:26s} {fault.kind:9s}  {fault.description}")
        return
    check_json_file(json_file)
    started = time.perf_counter()
    todo = tasks(quick)
    found = []
    with failures_in_one_line(), progress(len(todo)) as work:
        for name, result in run_tasks(todo, jobs, work.begins):
            found.append(result)
            work.ends(name)
    score = Score(found)
    write_json_file(json_file, "faults", as_dict(score, quick, time.perf_counter() - started))
    _print(score, quick, console)
    raise typer.Exit(0 if score.ok else 1)


def _print(score: Score, quick: bool, console: Console) -> None:
    cases = [case.name for case in fixed_cases(quick)]
    show(console, _rules_table(score, cases), keys=2)
    weakest = score.weakest
    say(console, f"hardest to see: {weakest.name} in case {weakest.case}, still {weakest.ratio:.3g} times its limit")
    for name, how in sorted(score.noticed.items()):
        said = f"noticed: {how}" if how else "NOT NOTICED"
        say(console, f"broken comparer, {MUTANTS[name].description}: {said}")
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


def _rules_table(score: Score, cases: list[str]) -> Table:
    """A line a case: how many faults and how many right implementations each rule rejects."""
    figures = ["crosscheck", *RULES]
    table = new_table(["rejected, of tried", "", *figures], numeric=figures)
    for case in cases:
        for n, kind in enumerate(Wrong):
            others = (_share(*score.rejected_by_rule(rule, case, kind)) for rule in RULES)
            words = "right implementations" if kind is Wrong.NOTHING else f"faults of {kind}"
            table.add_row("" if n else case, words, _share(*score.rejected(case, kind)), *others)
    return table


def _share(rejected: int, tried: int) -> str:
    return f"{rejected} / {tried}"


def as_dict(score: Score, quick: bool, seconds: float) -> dict[str, Any]:
    cases = [case.name for case in fixed_cases(quick)]
    return {
        "ok": score.ok,
        "verdict": "agree" if score.ok else "disagree",
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
        "rules": {rule: {case: _rule(score, rule, case) for case in cases} for rule in RULES},
        "mutants": dict(sorted(score.noticed.items())),
        "seconds": round(seconds, 1),
        "environment": describe_environment(),
    }


def _rule(score: Score, rule: str, case: str) -> dict[str, dict[str, int]]:
    counts = {kind: score.rejected_by_rule(rule, case, kind) for kind in Wrong}
    return {str(kind): {"rejected": rejected, "tried": tried} for kind, (rejected, tried) in counts.items()}
