"""The score over models of any kind: two tables, sentences and JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from crosscheck.core.environment import describe_environment
from crosscheck.core.finding import Outcome
from crosscheck.models.catalogue import MISTAKES, PAIRS
from crosscheck.report.table import Table
from crosscheck.report.terminal import say, show
from crosscheck.suite.model_rules import MODEL_RULES
from crosscheck.suite.model_score import ALARMS, DOUBT, DOUBTS, Fate, Grade, ModelScore, ModelTrial


def print_catalogue(console: Console) -> None:
    """Print every pair and every mistake."""
    for pair in PAIRS.values():
        say(console, f"{pair.name:32s} pair     {pair.what}")
    for mistake in MISTAKES.values():
        hidden = f"; hidden: {mistake.hidden_by}" if mistake.hidden_by else ""
        say(console, f"{mistake.name:32s} mistake  {mistake.what}{hidden}")


def print_model_score(score: ModelScore, console: Console) -> None:
    """Print the score, the rules, every problem that is not as expected, and whether the score is right."""
    show(console, score_table(score))
    show(console, rules_table(score))
    for trial in score.graded(*(grade for grade in Grade if grade is not Grade.AGREE)):
        say(console, f"{trial.grade}: {_where(trial)}: {trial.first}", "red" if trial.grade in ALARMS else "yellow")
    for name in score.with_fate(Fate.SURVIVED):
        for trial in (t for t in score.wrong[name] if t.grade not in (Grade.DISAGREE, Grade.LESS_PRECISE)):
            say(console, f"survivor: {_where(trial)}, {MISTAKES[name].what}: {_what_it_said(trial)}", "red")
    killed, hidden = len(score.with_fate(Fate.KILLED)), len(score.with_fate(Fate.NOT_SHOWABLE))
    alarms = f"{len(score.graded(*ALARMS))} false alarms in {len(score.right):,} right problems of {score.pairs} pairs"
    fates = f"killed {killed} of {len(score.wrong)} mistakes, {hidden} are not showable"
    line = f"{alarms}; {score.doubt:.2%} in doubt, less than {DOUBT:.0%} allowed; {fates}: "
    say(console, line + ("ok" if score.ok else "NOT ok"), "green" if score.ok else "red")


def score_table(score: ModelScore) -> Table:
    """Return how many right problems and mistakes had which outcome."""
    problems, mistakes = len(score.right), len(score.wrong)
    doubtful = len(score.graded(*DOUBTS))
    rows = [
        ("right pairs", "tried", f"{score.pairs}"),
        ("right problems", "tried", f"{problems:,}"),
        ("", "false alarms", f"{len(score.graded(*ALARMS))}"),
        ("", "less precise", f"{len(score.graded(Grade.LESS_PRECISE))}"),
        ("", "inconclusive or vacuous", f"{doubtful} ({score.doubt:.2%})"),
        ("mistakes", "tried", f"{mistakes}"),
        ("", "killed", f"{len(score.with_fate(Fate.KILLED))}"),
        ("", "not showable, and the verdict says why", f"{len(score.with_fate(Fate.NOT_SHOWABLE))}"),
        ("", "survived", f"{len(score.with_fate(Fate.SURVIVED))}"),
    ]
    return Table("", ("models", "", "number"), tuple(rows), numeric=("number",), keys=2)


def rules_table(score: ModelScore) -> Table:
    """Return how many right problems each rule rejects, and how many mistakes it rejects in every draw."""
    counts = {"crosscheck": score.rejected(), **{rule: score.rejected_by_rule(rule) for rule in MODEL_RULES}}
    rows = [
        (rule, f"{right} / {len(score.right)}", f"{wrong} / {len(score.wrong)}")
        for rule, (right, wrong) in counts.items()
    ]
    columns = ("rejected, of tried", "right problems", "mistakes")
    return Table("", columns, tuple(rows), numeric=columns[1:])


def to_json(score: ModelScore, seconds: float) -> dict[str, Any]:
    """Return the score, every problem that is not as expected, every mistake, and what the rules say."""
    counts = {rule: score.rejected_by_rule(rule) for rule in MODEL_RULES}
    return {
        "ok": score.ok,
        "verdict": str(Outcome.AGREE if score.ok else Outcome.DISAGREE),
        "pairs": score.pairs,
        "right_problems": {str(grade): len(score.graded(grade)) for grade in Grade},
        "not_agreeing": [_trial_to_json(t) | {"pair": t.name} for t in score.right if t.grade is not Grade.AGREE],
        "mistakes": [
            {
                "name": name,
                "pair": MISTAKES[name].pair,
                "description": MISTAKES[name].what,
                "hidden_by": MISTAKES[name].hidden_by,
                "answer": MISTAKES[name].answer,
                "fate": str(score.fates[name]),
                "outcomes": [str(trial.grade) for trial in trials],
            }
            for name, trials in score.wrong.items()
        ],
        "survivors": score.with_fate(Fate.SURVIVED),
        "rules": {
            rule: {
                "right_problems": {"rejected": right, "tried": len(score.right)},
                "mistakes": {"rejected": wrong, "tried": len(score.wrong)},
            }
            for rule, (right, wrong) in counts.items()
        },
        "seconds": round(seconds, 1),
        "environment": describe_environment(),
    }


def _trial_to_json(trial: ModelTrial) -> dict[str, Any]:
    return {"draw": trial.draw, "outcome": str(trial.grade), "first": trial.first}


def _where(trial: ModelTrial) -> str:
    return f"{trial.name}, draw {trial.draw}"


def _what_it_said(trial: ModelTrial) -> str:
    if trial.grade is Grade.AGREE:
        answer = MISTAKES[trial.name].answer
        return "agree" + f", without a line that says {answer!r}" * bool(answer)
    return f"{trial.grade}: {trial.first}"
