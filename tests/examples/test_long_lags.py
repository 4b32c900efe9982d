"""The long-lag tasks are what they say, short lags are learned, results are complete, and wrong input is one line."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.adding_problem import train as adding
from examples.copy_memory import train as copy
from examples.run import start
from tests import ROOT

pytestmark = pytest.mark.once
TINY = ("--hidden", 4, "--batch", 2, "--steps", 4, "--every", 2)


def call(monkeypatch, capsys, module, *options):
    """Exit code, stdout and stderr of a script, run in this process."""
    monkeypatch.setattr(sys, "argv", ["train", *map(str, options)])
    with pytest.raises(SystemExit) as left:
        start(module.main)
    return left.value.code, *capsys.readouterr()


def results(folder):
    return json.loads((folder / "results.json").read_text())["results"]


@pytest.mark.parametrize("lag", [2, 7])
def test_an_added_sequence_marks_two_steps_of_its_first_half(lag):
    x, target = map(np.asarray, adding.draw(jax.random.key(0), 500, lag))
    assert x.shape == (500, 2 * lag, 2)
    assert x.dtype == target.dtype == np.float32
    marked = x[..., 1] == 1
    assert (marked.sum(1) == 2).all()
    assert (x[..., 1][~marked] == 0).all()
    assert not marked[:, lag:].any()
    assert marked[:, :lag].any(0).all()
    assert [row[m].sum() for row, m in zip(x[..., 0], marked, strict=True)] == pytest.approx(target, rel=1e-6)
    assert np.var(target) == pytest.approx(2 / 12, rel=0.2)  # of 500 draws
    assert ((x[..., 0] >= 0) & (x[..., 0] < 1)).all()


def test_a_copied_sequence_ends_with_the_symbols_it_began_with():
    tokens, target = map(np.asarray, copy.draw(jax.random.key(0), 200, 6))
    assert tokens.shape == target.shape == (200, 26)
    assert set(np.unique(tokens[:, :10])) == set(range(1, 9))
    assert (tokens[:, 10:15] == 0).all()
    assert (tokens[:, 15] == copy.GO).all()
    assert (tokens[:, 16:] == 0).all()
    assert (target[:, :16] == 0).all()
    assert (target[:, 16:] == tokens[:, :10]).all()


@pytest.mark.parametrize(("module", "models"), [(adding, adding.MODELS), (copy, copy.MODELS)])
def test_a_study_has_every_model(tmp_path, monkeypatch, capsys, module, models):
    code, shown, _ = call(monkeypatch, capsys, module, *TINY, "--lag", 3, "--out", tmp_path / "run")
    assert not code
    rows = results(tmp_path / "run")
    assert [(row["lag"], row["model"]) for row in rows] == [(3, name) for name in ("baseline", *models)]
    baseline = (
        {"held_out_mse": 2 / 12} if module is adding else {"cross_entropy": 10 * np.log(8) / 23, "recalled": 1 / 8}
    )
    assert {name: rows[0][name] for name in baseline} == pytest.approx(baseline, rel=0.1)
    assert all(row["model"] in shown for row in rows)
    assert [row["steps"] for row in rows] == [0] + [4] * len(models)
    assert (tmp_path / "run" / "curve.png").stat().st_size > 10_000
    for name in models:
        assert len((tmp_path / "run" / f"{name}-3" / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("module", "model"), [(adding, "rnn-orthogonal"), pytest.param(copy, "lstm-chrono", marks=pytest.mark.slow)]
)
def test_a_stopped_study_goes_on_to_the_same_files(tmp_path, monkeypatch, capsys, module, model):
    options = (*TINY, "--lag", 3, "--model", model, "--out")
    call(monkeypatch, capsys, module, *options, tmp_path / "stopped", "--steps", 2)
    for name in ("stopped", "whole"):
        assert not call(monkeypatch, capsys, module, *options, tmp_path / name)[0]
    whole, stopped = (
        {str(f.relative_to(folder)): f.read_bytes() for f in folder.glob("**/[mrsc]*.[cjp][sn][vog]*")}
        for folder in (tmp_path / "whole", tmp_path / "stopped")
    )
    assert {"results.json", "settings.json", "curve.png", f"{model}-3/metrics.csv"} <= set(whole)
    assert whole == stopped


def test_each_lag_has_its_own_baseline(tmp_path, monkeypatch, capsys):
    lags = ("--lag", 3, "--lag", 2, "--lag", 2)
    call(monkeypatch, capsys, adding, *TINY, *lags, "--model", "rnn", "--out", tmp_path)
    rows = results(tmp_path)
    assert [(row["lag"], row["model"]) for row in rows] == [(n, m) for n in (2, 3) for m in ("baseline", "rnn")]
    mse = [row["held_out_mse"] for row in rows if row["model"] == "baseline"]
    assert mse == pytest.approx([2 / 12] * 2, rel=0.1)  # variance of a sum of two U(0, 1), of 2,000 draws


def test_the_error_is_of_the_layer_that_the_weights_are():
    x, target = adding.draw(jax.random.key(0), 20, 3)
    head = {"weight": jnp.ones(4, jnp.float32), "bias": jnp.float32(0.5)}
    for name, last in (("rnn", adding.rnn), ("lstm", adding.lstm)):
        layer = adding.MODELS[name](jax.random.key(1), 4, 6)
        expected = jnp.mean((last(layer, x)[0][:, -1].sum(-1) + 0.5 - target) ** 2)
        assert adding.error(head | {"layer": layer}, x, target) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.isa
def test_adding_over_a_short_lag_is_learned_and_ends_early(tmp_path, monkeypatch, capsys):
    options = ("--lag", 4, "--model", "lstm-chrono", "--hidden", 16, "--steps", 2000, "--every", 100)
    call(monkeypatch, capsys, adding, *options, "--out", tmp_path)
    baseline, row = results(tmp_path)
    # Seeds 0 to 3 under three instruction sets: 0.0007 to 0.0024 after 200 or 300 steps; the baseline is 0.167.
    assert row["held_out_mse"] < 0.01 < baseline["held_out_mse"]
    assert row["steps"] < 2000


def copying(folder, monkeypatch, capsys, seed=0):
    """The baseline and what 200 steps of training reach at lag 1."""
    options = ("--lag", 1, "--model", "lstm-chrono", "--hidden", 48, "--steps", 200, "--every", 100, "--seed", seed)
    call(monkeypatch, capsys, copy, *options, "--out", folder)
    return results(folder)


def assert_copied(baseline, row):
    """What is recalled is far from chance, and no more is asked.

    The baseline is the best that a network without memory can do. Of 10,000 held-out symbols it recalls 0.125 with a
    standard deviation of 0.003, so twice as many mean memory. After 200 steps seeds 0 to 3 under three instruction sets
    recall 0.348 to 0.374, at a cross entropy of 0.75 to 0.79 times the baseline. They already pass after 100 steps. The
    RNN recalls 0.131 after 200.
    """
    assert row["recalled"] > 2 * baseline["recalled"]
    assert row["cross_entropy"] < 0.9 * baseline["cross_entropy"]


@pytest.mark.isa
def test_copying_over_a_short_lag_is_learned(tmp_path, monkeypatch, capsys):
    assert_copied(*copying(tmp_path, monkeypatch, capsys))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_copying_is_learned_from_any_seed(seed, tmp_path, monkeypatch, capsys):
    assert_copied(*copying(tmp_path, monkeypatch, capsys, seed))


@pytest.mark.parametrize("module", [adding, copy])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--lag", "0"], "--lag"),
        (["--steps", "0"], "--steps"),
        (["--batch", "0"], "--batch"),
        (["--hidden", "-1"], "--hidden"),
        (["--model", "gru"], "--model gru: no such model; give rnn, "),
        (["--out", "{}/file/run"], "give a folder that can be written to"),
        (["--out", "{}"], "not empty, and no run of ours"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, module, options, says):
    (tmp_path / "file").write_text("")
    given = [option.format(tmp_path) for option in options]
    code, _, errors = call(monkeypatch, capsys, module, "--out", tmp_path / "run", *given)
    assert code == 2
    assert says in errors
    assert errors.count("\n") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_adding_at_lag_200_is_solved_by_the_lstm_and_not_by_the_rnn(tmp_path):
    command = [sys.executable, "-m", "examples.adding_problem.train", "--lag", "200", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    mse = {row["model"]: row["held_out_mse"] for row in results(tmp_path)}
    assert mse["lstm-chrono"] < 0.01  # the figure of the issue
    assert mse["rnn"] > 0.9 * mse["baseline"]
    assert mse["rnn-orthogonal"] > 0.9 * mse["baseline"]


@pytest.mark.slow
def test_copying_at_lag_20_is_learned_by_the_lstm_and_not_by_the_rnn(tmp_path):
    command = [sys.executable, "-m", "examples.copy_memory.train", "--lag", "20", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = {row["model"]: row for row in results(tmp_path)}
    assert rows["lstm-chrono"]["recalled"] > 0.9
    assert rows["rnn"]["cross_entropy"] > 0.95 * rows["baseline"]["cross_entropy"]
