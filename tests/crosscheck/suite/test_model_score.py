"""``crosscheck faults --models``: a false alarm, a doubt or a survivor changes its exit status."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import pickle
from dataclasses import replace

import jax
import pytest
import torch
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.models import catalogue
from crosscheck.models.pair import Drawn, Mistake
from crosscheck.suite import model_score as score
from crosscheck.suite.model_rules import MODEL_RULES
from crosscheck.suite.model_score import Fate, Grade, ModelScore, ModelTrial, Trials
from tests.support import small_models as small
from tests.support.small_models import HIDDEN, KILLED, RIGHT, make_small

pytestmark = pytest.mark.isa


@pytest.fixture
def run(monkeypatch):
    """Run the command over a small catalogue."""

    def run(*arguments, pairs=RIGHT, mistakes=(KILLED, HIDDEN)):
        make_small(monkeypatch, pairs, mistakes)
        return CliRunner().invoke(cli.app, ["faults", "--models", "--quick", "--jobs", "1", *arguments])

    return run


def words(result):
    return [line.split() for line in result.stdout.splitlines()]


def test_the_command(run, tmp_path):
    file = tmp_path / "out.json"
    result = run("--json", str(file))
    assert result.exit_code == 0, result.stdout
    shown = words(result)
    assert ["right", "problems", "tried", "2"] in shown
    assert ["false", "alarms", "0"] in shown
    assert ["killed", "1"] in shown
    assert ["crosscheck", "0", "/", "2", "1", "/", "2"] in shown
    assert result.stdout.splitlines()[-1] == (
        "0 false alarms in 2 right problems of 2 pairs; 0.00% in doubt, less than 2% allowed; killed 1 of 2 mistakes, "
        "1 are not showable: ok"
    )
    content = json.loads(file.read_text())
    assert (content["ok"], content["survivors"], content["not_agreeing"]) == (True, [], [])
    assert {m["name"]: m["fate"] for m in content["mistakes"]} == {
        "dense-bias": "killed",
        "clip-unseen": "not showable",
    }
    assert set(content["rules"]) == set(MODEL_RULES)
    assert content["rules"]["hugging-face"] == {
        "right_problems": {"rejected": 0, "tried": 2},
        "mistakes": {"rejected": 1, "tried": 2},
    }


def test_a_false_alarm_fails(run):
    result = run(pairs=(*RIGHT, small.FALSE_ALARM))
    assert result.exit_code == 1
    assert "disagree: wrong, draw 0: output 0 [float64]; error 1.0e-03, limit " in result.stdout
    assert result.stdout.rstrip().endswith("NOT ok")
    assert ["crosscheck", "1", "/", "3", "1", "/", "2"] in words(result)


def test_an_exception_is_a_false_alarm(run):
    result = run(pairs=(*RIGHT, small.RAISES))
    assert result.exit_code == 1
    assert "error: raises, draw 0: RuntimeError: no such pair\n" in result.stdout
    assert ["false", "alarms", "1"] in words(result)


def test_a_survivor_fails(run):
    result = run(mistakes=(KILLED, HIDDEN, small.SURVIVOR))
    assert result.exit_code == 1
    assert "survivor: nothing, draw 0, nothing is wrong: agree\n" in result.stdout


def test_a_mistake_that_the_inputs_hide_without_saying_so_survives(run):
    result = run(mistakes=(KILLED, small.UNHIDDEN))
    assert result.exit_code == 1
    assert "survivor: clip-not-hidden, draw 0, nothing is clipped at 6: agree\n" in result.stdout


def test_a_doubt_fails_if_there_are_many(run):
    result = run(pairs=(*RIGHT, small.ZERO))
    assert result.exit_code == 1
    assert "vacuous: zero, draw 0: grad weight [float64]; " in result.stdout
    assert "33.33% in doubt" in result.stdout


def test_a_port_that_rounds_more_is_told_apart(run):
    result = run(pairs=(*RIGHT, small.COARSE))
    assert ["less", "precise", "1"] in words(result)
    assert "less precise: coarse, draw 0: " in result.stdout
    assert result.exit_code == 0  # it is no false alarm, since the port really rounds more


def test_the_list(run):
    result = run("--list")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["dense", "pair"],
        ["clipped", "pair"],
        ["dense-bias", "mistake"],
        ["clip-unseen", "mistake"],
    ]
    assert result.stdout.rstrip().endswith("nothing is clipped at 6; hidden: no number reaches 6")


AGREES = [ModelTrial("dense", n, Grade.AGREE) for n in range(100)]
DIES = ModelTrial("dense-bias", 0, Grade.DISAGREE)
UNSEEN = ModelTrial("clip-unseen", 0, Grade.AGREE, answered=True)


@pytest.fixture
def fates(monkeypatch):
    make_small(monkeypatch)
    return lambda *trials: ModelScore([Trials(tuple(AGREES), trials)]).fates


def test_what_becomes_of_a_mistake(fates):
    assert fates(DIES, UNSEEN) == {"dense-bias": Fate.KILLED, "clip-unseen": Fate.NOT_SHOWABLE}
    assert fates(DIES, replace(DIES, draw=1, grade=Grade.LESS_PRECISE)) == {"dense-bias": Fate.KILLED}
    for grade in (Grade.AGREE, Grade.VACUOUS, Grade.INCONCLUSIVE, Grade.ERROR):
        assert fates(DIES, replace(DIES, draw=1, grade=grade)) == {"dense-bias": Fate.SURVIVED}
    assert fates(replace(UNSEEN, answered=False)) == {"clip-unseen": Fate.SURVIVED}
    assert fates(replace(UNSEEN, name="dense-bias")) == {"dense-bias": Fate.SURVIVED}  # nothing hides it
    assert fates(replace(UNSEEN, grade=Grade.DISAGREE)) == {"clip-unseen": Fate.KILLED}


def test_two_in_a_hundred_may_not_be_in_doubt(fates):
    def is_ok(doubtful):
        some = [replace(trial, grade=Grade.INCONCLUSIVE) for trial in AGREES[:doubtful]]
        return ModelScore([Trials((*some, *AGREES[doubtful:]), (DIES,))]).ok

    assert (is_ok(0), is_ok(1), is_ok(2)) == (True, True, False)


def test_a_score_of_nothing_is_not_right():
    assert not ModelScore([]).ok
    assert not ModelScore([Trials(right=tuple(AGREES))]).ok


def test_a_mistake_in_second_derivatives_is_not_showable_only_if_they_disagree(monkeypatch):
    """The line about second derivatives is under every verdict, so it says nothing by itself."""

    def change(factor):
        def port(params, x):
            y = x @ params["weight"].T + params["bias"]
            curve = y - jax.lax.stop_gradient(y)
            return y + factor * curve * curve

        return lambda drawn: Drawn(port, drawn.module, drawn.inputs)

    named = {0.0: "none", 1.0: "curved"}
    hidden = {"hidden_by": "second order", "answer": "second derivatives"}
    mistakes = [Mistake(name, "dense", "a curve", change(f), **hidden) for f, name in named.items()]
    make_small(monkeypatch, mistakes=mistakes)
    found = score.try_wrong(list(named.values()), [0]).wrong
    assert [(trial.grade, trial.answered) for trial in found] == [(Grade.AGREE, False), (Grade.AGREE, True)]


@pytest.mark.parametrize("answer", ["no number is beyond the upper bound of clamp", "every number is 1"])
def test_only_the_line_that_a_hidden_mistake_names_answers_it(monkeypatch, answer):
    make_small(monkeypatch, mistakes=[replace(HIDDEN, answer=answer)])
    (trial,) = score.try_wrong([HIDDEN.name], [0]).wrong
    assert trial.answered == (answer == HIDDEN.answer)
    expected = Fate.NOT_SHOWABLE if trial.answered else Fate.SURVIVED
    assert ModelScore([Trials(tuple(AGREES), (trial,))]).fates == {HIDDEN.name: expected}


def test_a_vacuous_finding_may_answer(monkeypatch):
    nothing = lambda drawn: replace(drawn, inputs=(0.0 * drawn.inputs[0],))
    hidden = Mistake(
        "no-input", "dense", "x is ignored", nothing, hidden_by="x is zero", answer="grad weight [float64]"
    )
    make_small(monkeypatch, mistakes=[hidden])
    (trial,) = score.try_wrong([hidden.name], [0]).wrong
    assert (trial.grade, trial.answered) == (Grade.VACUOUS, True)


def test_a_hidden_mistake_must_name_its_answer():
    for changes in ({"answer": ""}, {"hidden_by": ""}):
        with pytest.raises(ValueError, match="hidden_by and answer"):
            replace(HIDDEN, **changes)


def test_right_problems_are_checked_once(monkeypatch):
    """A second check would take time, and may raise an error that the first one does not."""
    make_small(monkeypatch)
    checks = []
    monkeypatch.setattr("crosscheck.suite.model_score.check", lambda *arguments, **options: checks.append(arguments))
    score.try_right(["dense"], [0])
    assert checks == []


def test_the_whole_score_has_a_thousand_problems_and_the_quick_one_a_part():
    whole, quick = score.tasks(False), score.tasks(True)
    problems = [(name, draw) for task in whole.values() for name in task.args[0] for draw in task.args[1]]
    assert len(problems) == len(set(problems))
    right = [(name, draw) for name, draw in problems if name in catalogue.PAIRS]
    assert {name for name, _ in right} == set(catalogue.PAIRS)
    assert len(right) >= 1_000
    assert {name for name, _ in problems} == {*catalogue.PAIRS, *catalogue.MISTAKES}
    tried = [name for task in quick.values() for name in task.args[0]]
    assert 0 < len(tried) < 200


def test_tasks_and_results_can_be_sent(monkeypatch):
    make_small(monkeypatch)
    for task in score.tasks(True).values():
        result = pickle.loads(pickle.dumps(task))()
        assert pickle.loads(pickle.dumps(result)) == result


def test_torchs_generator_is_left_as_it_was(monkeypatch):
    make_small(monkeypatch)
    before = torch.get_rng_state()
    score.try_right(["dense"], [0])
    assert torch.equal(before, torch.get_rng_state())
