"""``crosscheck gradients``: one long sequence, its error by time step, and how far its gradients survive."""

from __future__ import annotations

from crosscheck.core.problem import Gradient
from tests.support.requirements import need

need("torch")

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.commands.cli.options import Gradients
from crosscheck.core.finding import FLOAT64, Finding, Outcome, Rows
from crosscheck.core.slices import TIME
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.report.curves import curve_table, survival_text
from crosscheck.suite import runs as suite
from jax_lstm._src import stack as jax_lstm_stack
from tests.support.ports import cell, port, sigmoid


def run(*arguments):
    return CliRunner().invoke(cli.app, ["gradients", *arguments])


def test_the_default_names_what_is_vacuous_and_what_decides_it(tmp_path):
    file = tmp_path / "out.json"
    result = run("--length", "400", "--hidden", "16", "--json", str(file))
    assert result.exit_code == 0, result.stdout
    assert result.stdout.rstrip().endswith(": agree")
    assert "below the smallest normal float32 at" in result.stdout
    for name in ("jax_lstm", "torch.nn.LSTM"):
        assert f"{name}, grad x, float32 check: " in result.stdout
        for quantity in ("y", Gradient("x")):
            assert f"\n{name}, {quantity}\n" in "\n" + result.stdout
    content = json.loads(file.read_text())
    assert [case["implementation"] for case in content["cases"]] == ["jax_lstm", "torch.nn.LSTM"]
    steps = [f for f in content["cases"][0]["findings"] if (f["quantity"], f["scope"]) == ("grad x", "t")]
    assert {f["check"] for f in steps} == {"float64", "float32", "float32 loss-scaled"}
    assert content["cases"][0]["reproduce"] == "crosscheck gradients --length 400 --hidden 16 --loss last --seed 0"


def test_chrono_bias_keeps_gradients_alive():
    result = run("--length", "400", "--hidden", "16", "--forget-bias", "chrono")
    assert result.exit_code == 0, result.stdout
    assert "below the smallest normal float32 at 0 of 400 steps" in result.stdout
    assert "vacuous" not in result.stdout


def test_chunks_are_judged_beside_the_rest(monkeypatch):
    result = run("--length", "60", "--hidden", "5", "--loss", "all", "--checkpoint-every", "7")
    assert result.exit_code == 0, result.stdout
    for name in ("jax_lstm", "jax_lstm checkpoint_every=7", "torch.nn.LSTM"):
        assert f"\n{name}, grad x\n" in "\n" + result.stdout
    seen = []
    original = jax_lstm_stack.recur_in_chunks
    monkeypatch.setattr(jax_lstm_stack, "recur_in_chunks", lambda every, *a: seen.append(every) or original(every, *a))
    run("--length", "20", "--hidden", "5", "--checkpoint-every", "6")
    assert set(seen) == {None, 6}


def test_options_reach_the_case():
    from crosscheck.commands.gradients import _case

    options = Gradients(length=9, hidden=5, forget_bias="2.5", loss="all", seed=3)
    assert _case(options) == RecurrentCase("gradients", "", 2, 9, 8, 5, loss="all", forget_bias=2.5, seed=3)
    plain, raised = (_case(replace(options, forget_bias=bias)).problem.params["bias_ih_l0"] for bias in (None, "2.5"))
    np.testing.assert_allclose(raised - plain, np.repeat([0, 2.5, 0, 0], 5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--forget-bias", "high"), "--forget-bias must be 'chrono' or a number; got 'high'"),
        (("--forget-bias", "nan"), "--forget-bias must be finite; got 'nan'"),
        (
            ("--length", "9", "--checkpoint-every", "9"),
            "--checkpoint-every must be under --length, 9, the steps; got 9",
        ),
        (("--forget-bias", "chrono", "--length", "2"), "--forget-bias chrono needs --length of at least 3; got 2"),
    ],
)
def test_bad_options_are_one_line(arguments, words):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"crosscheck: {words}\n"


def test_a_wrong_choice_lists_the_choices():
    result = run("--loss", "some")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("crosscheck: Invalid value for '--loss'")
    assert result.stderr.endswith("'some' is not one of 'last', 'all'.\n")


def test_a_wrong_implementation_exits_1(monkeypatch):
    wrong = suite.Implementation("jax_lstm", port(cell(f=lambda z: sigmoid(1.001 * z))))
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", wrong)
    monkeypatch.setattr("crosscheck.commands.gradients.STANDARD", suite.STANDARD)
    result = run("--length", "60", "--hidden", "5")
    assert result.exit_code == 1
    assert "gate f (forget)" in result.stdout


def finding(errors, limits, outcomes, sizes) -> Finding:
    outcomes = np.asarray(outcomes)
    errors, limits, sizes = map(np.asarray, (errors, limits, sizes))
    rows = Rows(outcomes, errors, limits, sizes, outcomes != 0, outcomes == 0, limits * sizes)
    return Finding(Gradient("x"), FLOAT64, Outcome.AGREE, 0.0, 1.0, scope=TIME, rows=rows)


def test_a_stretch_shows_its_worst_step():
    errors = np.full(100, 1e-16)
    errors[37] = 9e-15
    table = curve_table([finding(errors, np.full(100, 1e-14), np.zeros(100, int), np.ones(100))], Gradient("x"))
    assert table.rows[3][2] == "9.0e-15 / 1.0e-14"
    assert table.rows[3][0] == "30 to 39"
    wrong = curve_table([finding(errors, errors / 2, 3 * (errors > 1e-15), np.ones(100))], Gradient("x"))
    assert wrong.rows[3][2].endswith("disagree")


def test_survival_is_told_by_its_rate():
    sizes = 0.5 ** np.arange(299, -1, -1.0)
    text = survival_text(finding(sizes * 0, sizes * 0, np.zeros(300, int), sizes))
    assert "a factor 0.5 per step going back" in text
    assert "below the smallest normal float32 at 173 of 300 steps" in text
    sizes[:10] = 0
    assert "zero even in float64 before step 10" in survival_text(finding(sizes, sizes, np.zeros(300, int), sizes))


@pytest.mark.slow
def test_100000_steps_in_less_than_4_gb():
    """The command runs both frameworks in both precisions, and jax_lstm also in chunks of about √T."""
    measured = [sys.executable, "-m", "tests.support.memory", sys.executable]
    command = ["-m", "crosscheck", "gradients", "--length", "100000", "--forget-bias", "chrono"]
    command += ["--checkpoint-every", "320"]
    done = subprocess.run([*measured, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stderr.split()[-1]) < 4e9, done.stderr
