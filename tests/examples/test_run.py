"""Runs of the examples: a stopped run continues to the same files, and a wrong folder is refused with one line."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import orbax.checkpoint
import pytest

from examples.run import Refused, Run
from tests.support.example_commands import contents

SETTINGS = {"size": 3}


@jax.jit
def step(state, n):
    state = {"a": state["a"] * 1.1 + n}
    return state, {"loss": state["a"].sum()}


def start_state(size=3):
    return {"a": jnp.arange(size, dtype=jnp.float32)}


def run_whole(folder, steps=10, **options):
    run = Run(folder, SETTINGS)
    state = run.train(start_state(), step, steps, 3, **options)
    run.finish({"sum": float(state["a"].sum())})
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run that was not stopped."""
    return run_whole(tmp_path_factory.mktemp("runs") / "whole")


@pytest.mark.parametrize("stop_at", [0, 2, 3, 7, 9])
def test_a_stopped_run_continues_to_the_same_files(tmp_path, whole, stop_at):
    def stopped(state, n):
        if n == stop_at:
            raise KeyboardInterrupt
        return step(state, n)

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "stopped", SETTINGS).train(start_state(), stopped, 10, 3)
    assert len(Run(tmp_path / "stopped", SETTINGS).metrics()) == stop_at // 3
    run_whole(tmp_path / "stopped")
    assert contents(whole.folder) == contents(tmp_path / "stopped")
    assert [row["step"] for row in whole.metrics()] == [3, 6, 9, 10]


def test_a_line_without_a_checkpoint_is_written_again(tmp_path, whole):
    Run(tmp_path / "ahead", SETTINGS).train(start_state(), step, 6, 3)
    (tmp_path / "ahead" / "metrics.csv").write_bytes((whole.folder / "metrics.csv").read_bytes())
    assert run_whole(tmp_path / "ahead").metrics() == whole.metrics()


def test_until_ends_a_run_and_a_restart_does_not_continue_it(tmp_path):
    options = {"evaluate": lambda state: {"held_out": float(state["a"][0])}, "until": lambda row: row["held_out"] > 5}
    for _ in range(2):
        rows = run_whole(tmp_path / "run", **options).metrics()
        assert [row["held_out"] > 5 for row in rows] == [False, True]
        assert [row["step"] for row in rows] == [3, 6]


def foreign_file(folder):
    (folder / "thesis.txt").write_text("mine")


def other_settings(folder):
    (folder / "settings.json").write_text(json.dumps({"size": 4}))


def damaged_settings(folder):
    (folder / "settings.json").write_text('{"size": ')


def settings_that_are_a_number(folder):
    (folder / "settings.json").write_text("17")


def other_shape(folder):
    with orbax.checkpoint.CheckpointManager(folder / "checkpoints") as checkpoints:
        checkpoints.save(3, args=orbax.checkpoint.args.StandardSave(start_state(5)))
    (folder / "settings.json").write_text(json.dumps(SETTINGS))


def other_names(folder):
    with orbax.checkpoint.CheckpointManager(folder / "checkpoints") as checkpoints:
        checkpoints.save(3, args=orbax.checkpoint.args.StandardSave({"weight": jnp.zeros(3)}))
    (folder / "settings.json").write_text(json.dumps(SETTINGS))


def more_steps(folder):
    run_whole(folder, steps=12)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (foreign_file, "not empty, and not a run of an example"),
        (other_settings, "another run (size 4 there, 3 here)"),
        (damaged_settings, "its settings.json is not one of an example"),
        (settings_that_are_a_number, "its settings.json is not one of an example"),
        (other_shape, "step 3 does not fit this model"),
        (other_names, "step 3 does not fit this model"),
        (more_steps, "already has 12 steps"),
    ],
)
def test_a_wrong_folder_is_refused_and_not_changed(tmp_path, prepare, says):
    prepare(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(Refused) as refused:
        run_whole(tmp_path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="give a folder that you can write to"):
        Run(tmp_path / "file" / "run", SETTINGS)


def test_a_temporary_file_of_a_killed_run_is_not_a_foreign_file(tmp_path):
    (tmp_path / ".settings.json.17").write_text("{")
    assert run_whole(tmp_path).metrics()
