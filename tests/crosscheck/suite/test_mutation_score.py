"""``crosscheck faults``: its score fails if a fault survives, an alarm is false or a broken comparer passes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.core.comparison import compare
from crosscheck.core.finding import Outcome
from crosscheck.core.judge import run_checks
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Wrong
from crosscheck.suite import mutants
from crosscheck.suite import mutation_score as score
from crosscheck.suite.fault_cases import fixed_cases, random_cases
from crosscheck.suite.mutants import MUTANTS, Recorded
from crosscheck.suite.mutation_score import Score, TaskResult, Trial
from crosscheck.suite.tolerance_rules import RULES
from tests.support.libraries import answering

PLAIN = next(case for case in fixed_cases(True) if case.name == "plain")


@pytest.fixture(scope="module")
def tried():
    return score.try_faults(PLAIN, list(FAULTS))


def test_the_catalogue_is_as_large_as_it_must_be():
    assert len(FAULTS) >= 56
    assert {fault.kind for fault in FAULTS.values()} == {Wrong.OUTPUTS, Wrong.GRADIENTS}
    applied = {name for name, fault in FAULTS.items() if any(fault.applies(case) for case in fixed_cases(True))}
    assert applied == set(FAULTS)


def test_every_fault_that_applies_is_killed(tried):
    assert len(tried.trials) == sum(fault.applies(PLAIN) for fault in FAULTS.values())
    assert {trial.outcome for trial in tried.trials} == {Outcome.DISAGREE}


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in fixed_cases(False) if c.name != "plain"], ids=lambda c: c.name)
def test_every_fault_is_killed_in_every_case(case):
    assert {trial.outcome for trial in score.try_faults(case, list(FAULTS)).trials} == {Outcome.DISAGREE}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_false_alarm(part):
    cases = list(random_cases(104))[part::8]
    assert Score([score.try_right(cases, False)]).false_alarms == []


SOME = (("last", "lstm"), ("all", "lstm"), ("last", "rnn"), ("all", "rnn"))


def test_no_false_alarm_on_a_few():
    known = [case for case in random_cases(104) if case.num_layers == 1]
    cases = [next(case for case in known if case.loss == loss and case.kind == kind) for loss, kind in SOME]
    found = Score([score.try_right(cases, False)])
    assert [(t.case, t.name) for t in found.right] == [(case.name, name) for case in cases for name in answering(case)]
    assert found.false_alarms == []


def test_at_least_a_hundred_configurations_and_all_different():
    cases = list(random_cases(score.RANDOM[False]))
    assert len({replace(case, name="", seed=0) for case in cases}) == len(cases) >= 100
    for field, values in {
        "kind": {"lstm", "rnn"},
        "nonlinearity": {"tanh", "relu"},
        "num_layers": {1, 2, 3},
        "bias": {True, False},
        "bidirectional": {True, False},
        "time_major": {True, False},
        "loss": {"all", "last"},
    }.items():
        assert {getattr(case, field) for case in cases} == values
    assert any(case.lengths for case in cases)
    assert any(case.batch is None for case in cases)
    assert any(case.proj_size for case in cases)


def test_every_broken_comparer_is_noticed():
    found = score.try_mutants(PLAIN).noticed
    assert set(found) == set(MUTANTS) >= {"empty-zip", "signed-sum", "nan-to-zero", "zero-states", "constant-weights"}
    assert all(found.values()), found


def test_a_sound_comparer_is_not_noticed():
    """This is the control for the mutants: nothing is broken, so nothing is noticed."""
    trial = mutants.Programs(
        PLAIN,
        {name: Recorded(faulty.runner(FAULTS[name], PLAIN)) for name in ("gate-order-igfo", "clip-high", "dh0-zero")},
        {"torch_ref": Recorded(score.STANDARD["torch_ref"].runner(PLAIN))},
    )
    assert mutants.Mutant("is sound").notice(trial) == ""
    assert mutants.Mutant("is sound", degenerate=lambda problem: problem).notice(trial) == ""
    blind = mutants.Mutant("sees nothing", counts=lambda finding: False)
    assert "3 of 3 faults survive" in blind.notice(trial)


def test_results_are_remembered_by_their_cotangents():
    calls = []
    run = Recorded(lambda problem, dtype: calls.append(dtype) or {})
    last = replace(PLAIN, loss="last").problem  # the first cotangent is zero, and so is its multiple
    for problem in (last, last.scaled(2.0), last):
        run(problem, "float64")
    run(last, "float32")
    assert calls == ["float64", "float64", "float32"]


def task_result(*others):
    """Return a result in which all faults are killed and two right implementations agree, except for ``others``."""
    trials = {(name, fault.kind): Trial("plain", name, fault.kind, Outcome.DISAGREE) for name, fault in FAULTS.items()}
    trials |= {(n, Wrong.NOTHING): Trial("plain", n, Wrong.NOTHING, Outcome.AGREE) for n in ("jax_lstm", "torch_ref")}
    trials |= {(trial.name, trial.kind): trial for trial in others}
    return TaskResult([replace(trial, ratio=2.0) for trial in trials.values()], dict.fromkeys(MUTANTS, "seen"))


SURVIVOR = Trial("plain", "tf32", FAULTS["tf32"].kind, Outcome.AGREE)
ALARM = Trial("plain", "jax_lstm", Wrong.NOTHING, Outcome.VACUOUS)


def test_the_score_fails_where_anything_does():
    assert Score([task_result()]).ok
    survivor = Score([task_result(SURVIVOR)])
    assert (survivor.ok, survivor.survivors) == (False, {"tf32": ["plain: agree"]})
    alarm = Score([task_result(ALARM)])
    assert (alarm.ok, alarm.false_alarms) == (False, [replace(ALARM, ratio=2.0)])
    blind = Score([replace(task_result(), noticed={**dict.fromkeys(MUTANTS, "seen"), "empty-zip": ""})])
    assert (blind.ok, blind.unnoticed) == (False, ["empty-zip"])
    untried = Score([replace(task_result(), trials=[t for t in task_result().trials if t.name != "tf32"])])
    assert untried.survivors == {"tf32": ["tried in no case"]}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(score, "fixed_cases", lambda quick: (PLAIN,))
    monkeypatch.setattr("crosscheck.report.score_report.fixed_cases", lambda quick: (PLAIN,))
    monkeypatch.setattr(score, "RANDOM", {True: 1, False: 1})
    few = {name: FAULTS[name] for name in ("gate-order-igfo", "clip-high", "dW_hh-one-NaN", "float32-leak")}
    for module in (score, score.faulty, mutants):
        if hasattr(module, "FAULTS"):
            monkeypatch.setattr(module, "FAULTS", few)
    monkeypatch.setattr("crosscheck.report.score_report.FAULTS", few)
    return lambda *arguments: CliRunner().invoke(cli.app, ["faults", "--jobs", "1", *arguments])


def test_the_command(small, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "MUTANTS", {"empty-zip": MUTANTS["empty-zip"]})
    monkeypatch.setattr("crosscheck.report.score_report.MUTANTS", {"empty-zip": MUTANTS["empty-zip"]})
    file = tmp_path / "out.json"
    result = small("--json", str(file))
    assert result.exit_code == 0, result.stdout
    last = result.stdout.rstrip().splitlines()[-1]
    tried = len(answering(PLAIN)) + len(answering(next(random_cases(1))))
    assert last.startswith(
        f"killed 4 of 4 faults; 0 false alarms in {tried} verdicts on right implementations, 1 random configurations"
    )
    assert last.endswith("1 of 1 broken comparers noticed: ok")
    assert "verdicts on right implementations: jax_lstm 2, jax_lstm[" in result.stdout
    content = json.loads(file.read_text())
    assert (content["ok"], content["survivors"], content["false_alarms"]) == (True, {}, [])
    assert content["rules"]["hugging-face"]["plain"]["gradients"] == {"rejected": 0, "tried": 2}
    assert set(content["rules"]) == set(RULES)
    blind = partial(compare, norms=lambda rows: np.zeros((2, len(rows))))
    monkeypatch.setattr(score, "run_checks", partial(run_checks, comparer=blind))
    broken = small()
    assert broken.exit_code == 1
    assert "survivor: gate-order-igfo (the reference with gates read in the order i g f o" in broken.stdout
    assert broken.stdout.rstrip().endswith("NOT ok")


def test_the_list():
    result = CliRunner().invoke(cli.app, ["faults", "--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(FAULTS)


def test_an_unwritable_file_is_one_line(tmp_path):
    result = CliRunner().invoke(cli.app, ["faults", "--json", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
