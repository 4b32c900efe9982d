"""`python -m benchmarks.serving`: the kernels and the loop, for one step and for a sequence."""

from __future__ import annotations

from typer.testing import CliRunner

from benchmarks import serving
from tests.support.native import kernels_from, need_kernels

need_kernels()

import typer

import jax_lstm


def run(*arguments):
    app = typer.Typer()
    app.command()(serving.main)
    return CliRunner().invoke(app, arguments)


def test_it_says_that_the_kernels_are_missing(tmp_path):
    with kernels_from(tmp_path / "missing"):
        done = run()
    assert done.exit_code == 1
    assert done.output.startswith(
        "benchmarks.serving: backend='native' cannot run this call: its compiled file was not"
    )
    assert len(done.output.splitlines()) == 1


def test_it_times_both_for_a_step_and_for_a_sequence(monkeypatch):
    monkeypatch.setattr(serving, "SHAPES", ((2, 3, 4),))
    monkeypatch.setattr(serving, "STEPS", 5)
    asked, stream = [], jax_lstm.lstm_stream
    noted = lambda *args, backend, **options: asked.append(backend) or stream(*args, backend=backend, **options)
    monkeypatch.setattr(jax_lstm, "lstm_stream", noted)
    done = run("--seconds", "0")
    assert done.exit_code == 0, done.output
    head, row = done.stdout.strip().splitlines()
    assert head.split()[0] == "B,D,H"
    assert row.split()[0] == "2,3,4"
    assert row.count("s") == len(serving.COLUMNS)
    assert asked == ["native", "scan"] * 2
