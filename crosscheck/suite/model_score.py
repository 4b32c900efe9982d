"""The score over models of any kind: the verdict of `check` on right pairs, and on mistakes in them.

A right problem raises a false alarm if the verdict is "disagree", or if the check raises. A mistake is killed if the
verdict is "disagree" in every draw. It is not showable if its inputs hide it, the verdict is "agree" or "vacuous", and
the verdict says so with the words that the mistake names. Rules in use elsewhere judge the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import Any

from crosscheck.core.errors import first_line
from crosscheck.core.finding import Outcome, Reason
from crosscheck.core.verdict import Verdict
from crosscheck.core.verdict_text import finding_text
from crosscheck.models.catalogue import MISTAKES, PAIRS, draw_right, draw_wrong
from crosscheck.models.pair import Drawn
from crosscheck.suite.judging import judge
from crosscheck.suite.model_rules import passed_rules
from crosscheck.suite.pair import check
from crosscheck.suite.preparation import SetUp, set_up
from crosscheck.suite.unseen import SECOND_DERIVATIVES

RIGHT = 1_000  # problems of right pairs, at least
QUICK = 5  # the quick score tries one pair and one mistake of so many
DRAWS = 1  # of each mistake
CHUNK = 8
DOUBT = 0.02  # of the right problems may be inconclusive or vacuous


class Grade(StrEnum):
    """What one check said. The first four are outcomes of a verdict."""

    AGREE = "agree"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"
    DISAGREE = "disagree"
    LESS_PRECISE = "less precise"  # "disagree" only since the port rounds more
    ERROR = "error"  # an exception


REJECTED = (Grade.DISAGREE, Grade.LESS_PRECISE)  # the verdict is "disagree"
ALARMS = (Grade.DISAGREE, Grade.ERROR)
DOUBTS = (Grade.VACUOUS, Grade.INCONCLUSIVE)


class Fate(StrEnum):
    """What became of a mistake."""

    KILLED = "killed"
    NOT_SHOWABLE = "not showable"
    SURVIVED = "survived"


@dataclass(frozen=True)
class ModelTrial:
    """One problem of a right pair, or of a mistake.

    Attributes:
      name: the pair, or the mistake.
      draw: the number of the draw.
      grade: what the check said.
      first: the first finding that is as grave as the verdict, or the first line of the exception, in words.
      answered: the verdict says what hides a hidden mistake, with the words that the mistake names.
      passed_rules: the rules that let it pass; None if the programs could not run.
    """

    name: str
    draw: int
    grade: Grade
    first: str = ""
    answered: bool = False
    passed_rules: frozenset[str] | None = None


@dataclass(frozen=True)
class Trials:
    """What one task returns."""

    right: tuple[ModelTrial, ...] = ()
    wrong: tuple[ModelTrial, ...] = ()


def tasks(quick: bool) -> dict[str, Callable[[], Trials]]:
    """Return independent pieces of work by what they try."""
    step = QUICK if quick else 1
    pairs, mistakes = list(PAIRS)[::step], list(MISTAKES)[::step]
    draws = 1 if quick else -(-RIGHT // len(PAIRS))
    work: dict[str, Callable[[], Trials]] = {}
    for name in pairs:
        for n in range(0, draws, CHUNK):
            several = range(n, min(n + CHUNK, draws))
            work[f"right problems of {name} from draw {n}"] = partial(try_right, [name], several)
    for n in range(0, len(mistakes), CHUNK):
        chunk = mistakes[n : n + CHUNK]
        work[f"{chunk[0]} and others"] = partial(try_wrong, chunk, range(DRAWS))
    return work


def try_right(names: Sequence[str], draws: Sequence[int]) -> Trials:
    """Judge problems of right pairs."""
    return Trials(right=tuple(_try(draw_right, name, draw) for name in names for draw in draws))


def try_wrong(names: Sequence[str], draws: Sequence[int]) -> Trials:
    """Judge problems of mistakes."""
    answers = {name: MISTAKES[name].answer for name in names}
    return Trials(wrong=tuple(_try(draw_wrong, name, draw, answers[name]) for name in names for draw in draws))


def _try(draw_problem: Callable[[str, int], Drawn], name: str, draw: int, answer: str = "") -> ModelTrial:
    try:
        drawn = draw_problem(name, draw)
        options = dict(drawn.options)
        dtypes = options.pop("dtypes", ("float64", "float32"))
        made = set_up(drawn.port, drawn.module, drawn.params, drawn.inputs, **options)
        verdict = judge(made, dtypes)
        answered = bool(answer) and _is_answered(drawn, verdict, answer)
    except Exception as error:  # whatever a check raises is counted
        return ModelTrial(name, draw, Grade.ERROR, f"{type(error).__name__}: {first_line(error)}")
    first = "" if verdict.ok or verdict.first is None else finding_text(verdict.first)
    return ModelTrial(name, draw, grade_of(verdict), first, answered, _passed_rules(made))


def grade_of(verdict: Verdict) -> Grade:
    """Return the outcome of a verdict. A disagreement that is only in precision has a grade of its own."""
    wrong = [finding for finding in verdict.findings if finding.final is Outcome.DISAGREE]
    if wrong and all(finding.reason is Reason.PRECISION for finding in wrong):
        return Grade.LESS_PRECISE
    return Grade(verdict.outcome)


def _is_answered(drawn: Drawn, verdict: Verdict, answer: str) -> bool:
    """Return whether a verdict says, with the words of the answer, what the inputs cannot show.

    It is a line under a verdict that agrees, or a finding that is vacuous. The line about second derivatives stands
    under almost every verdict. It counts only if they disagree.
    """
    nothing = [finding_text(finding) for finding in verdict.findings if finding.final is Outcome.VACUOUS]
    if not any(answer in text for text in (*verdict.not_shown, *nothing)):
        return False
    if answer not in SECOND_DERIVATIVES:
        return True
    options: dict[str, Any] = {**drawn.options, "second_order": True}
    again = check(drawn.port, drawn.module, drawn.params, drawn.inputs, **options)
    return again.outcome is Outcome.DISAGREE


def _passed_rules(made: SetUp) -> frozenset[str]:
    port, module = made.port(made.problem, "float32"), made.side.in_dtype(made.problem, "float32")
    return passed_rules(port, module, made.side.truth(made.problem), made.problem)


@dataclass(frozen=True)
class ModelScore:
    """The results of all tasks."""

    results: Sequence[Trials]

    @cached_property
    def right(self) -> list[ModelTrial]:
        """The problems of right pairs, by name and draw."""
        return sorted((t for result in self.results for t in result.right), key=lambda t: (t.name, t.draw))

    @cached_property
    def wrong(self) -> dict[str, list[ModelTrial]]:
        """The draws of each mistake that was tried."""
        trials: dict[str, list[ModelTrial]] = {}
        for trial in sorted((t for r in self.results for t in r.wrong), key=lambda t: (t.name, t.draw)):
            trials.setdefault(trial.name, []).append(trial)
        return trials

    @property
    def pairs(self) -> int:
        """How many right pairs were tried."""
        return len({trial.name for trial in self.right})

    def graded(self, *grades: Grade) -> list[ModelTrial]:
        """Return the right problems with one of these grades."""
        return [trial for trial in self.right if trial.grade in grades]

    @cached_property
    def fates(self) -> dict[str, Fate]:
        """What became of each mistake."""
        return {name: _fate(name, trials) for name, trials in self.wrong.items()}

    def with_fate(self, fate: Fate) -> list[str]:
        """Return the names of the mistakes with a fate."""
        return [name for name, found in self.fates.items() if found is fate]

    def rejected(self) -> tuple[int, int]:
        """Return on how many right problems, and on how many mistakes in every draw, the verdict is "disagree"."""
        return len(self.graded(*REJECTED)), len(self.with_fate(Fate.KILLED))

    def rejected_by_rule(self, rule: str) -> tuple[int, int]:
        """Return how many right problems, and how many mistakes in every draw, a rule rejects."""
        right = sum(_rejects(rule, trial) for trial in self.right)
        return right, sum(all(_rejects(rule, trial) for trial in trials) for trials in self.wrong.values())

    @property
    def doubt(self) -> float:
        """The share of right problems that are inconclusive or vacuous."""
        return len(self.graded(*DOUBTS)) / max(len(self.right), 1)

    @property
    def ok(self) -> bool:
        """Whether no alarm is false, few problems are in doubt, and no mistake survived. False if nothing was tried."""
        tried = bool(self.right and self.wrong)
        return tried and not self.graded(*ALARMS) and self.doubt < DOUBT and not self.with_fate(Fate.SURVIVED)


def _fate(name: str, trials: Sequence[ModelTrial]) -> Fate:
    if all(trial.grade in REJECTED for trial in trials):
        return Fate.KILLED
    answered = all(trial.grade in (Grade.AGREE, Grade.VACUOUS) and trial.answered for trial in trials)
    return Fate.NOT_SHOWABLE if answered and MISTAKES[name].answer else Fate.SURVIVED


def _rejects(rule: str, trial: ModelTrial) -> bool:
    return trial.passed_rules is not None and rule not in trial.passed_rules
