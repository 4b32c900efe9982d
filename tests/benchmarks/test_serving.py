"""`python -m benchmarks.serving`: the kernels and the loop for a step and for a sequence."""

from __future__ import annotations

from typer.testing import CliRunner

from benchmarks import serving
from tests.support.native import kernels_in, need_kernels

need_kernels()

import jax
import jax.numpy as jnp
import typer

import jax_lstm


def test_it_times_both_for_a_step_and_for_a_sequence(monkeypatch):
    monkeypatch.setattr(serving, "SHAPES", ((2, 3, 4),))
    monkeypatch.setattr(serving, "STEPS", 5)
    app = typer.Typer()
    app.command()(serving.main)
    done = CliRunner().invoke(app, ["--seconds", "0"])
    assert done.exit_code == 0, done.output
    head, row = done.stdout.strip().splitlines()
    assert head.split()[0] == "B,D,H"
    assert row.split()[0] == "2,3,4"
    assert row.count("s") == len(serving.COLUMNS)


def test_one_side_runs_the_kernels_and_the_other_the_loop():
    params = jax_lstm.init_lstm(jax.random.key(0), 3, 4)
    args = params, jnp.ones((5, 2, 3)), jax_lstm.zero_state(params, 2)
    assert kernels_in(serving.on_kernels, *args) == ["forward"]
    assert kernels_in(serving.exported_loop(*args).call, *args) == []
