"""`python -m benchmarks.serving`: the kernels and the loop for a step and for a sequence."""

from __future__ import annotations

from typer.testing import CliRunner

from benchmarks import serving
from tests.support.native import need_kernels

need_kernels()

import typer

import jax_lstm


def test_it_times_both_for_a_step_and_for_a_sequence(monkeypatch):
    monkeypatch.setattr(serving, "SHAPES", ((2, 3, 4),))
    monkeypatch.setattr(serving, "STEPS", 5)
    asked, stream = [], jax_lstm.lstm_stream
    noted = lambda *args, backend, **options: asked.append(backend) or stream(*args, backend=backend, **options)
    monkeypatch.setattr(jax_lstm, "lstm_stream", noted)
    app = typer.Typer()
    app.command()(serving.main)
    done = CliRunner().invoke(app, ["--seconds", "0"])
    assert done.exit_code == 0, done.output
    head, row = done.stdout.strip().splitlines()
    assert head.split()[0] == "B,D,H"
    assert row.split()[0] == "2,3,4"
    assert row.count("s") == len(serving.COLUMNS)
    assert asked == ["native", "scan"] * 2
