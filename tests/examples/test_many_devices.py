"""examples/many_devices: the same losses on one device, several devices and two processes. No process is left over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from examples.many_devices.train import ONE_DEVICE, ROUNDED, judge, launch, main
from examples.run import Refused, Run
from tests.support.example_commands import contents, refused_in_one_line
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.once
SMALL = ["--devices", 4, "--hidden", 4, "--batch", 8, "--length", 6, "--every", 2]
WAYS = [ONE_DEVICE, ROUNDED, "4 devices", "2 processes of 2"]
PROCESSES = Path("/proc")


def workers(folder):
    """Return the ids of the running worker processes whose command line has ``folder``."""
    ids = []
    for place in PROCESSES.glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if "examples.many_devices.worker" in words and any(word.startswith(str(folder)) for word in words):
            ids.append(int(place.parent.name))
    return ids


@pytest.mark.slow
def test_every_way_gives_the_losses_of_one_device(command, tmp_path):
    code, out, err = command(main, *SMALL, "--steps", 4, "--dtype", "float64", "--out", tmp_path / "run")
    assert code == 0, err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["losses"]) == list(results["largest difference"]) == WAYS
    assert max(results["largest difference"].values()) < 1e-13  # eps is 2e-16
    assert results["losses"][ONE_DEVICE][0] > results["losses"][ONE_DEVICE][-1]
    assert all(name in out for name in WAYS)
    assert set(contents(tmp_path / "run")) == {"settings.json", "results.json", "curve.png"}
    for folder in (path for path in (tmp_path / "run").iterdir() if path.is_dir()):
        assert set(contents(folder)) == {"settings.json", "metrics.csv"}
    second_process = list((tmp_path / "run" / "2_processes_of_2" / "checkpoints").glob("4/**/process_1"))
    assert second_process, "Orbax knows of no second process"


def test_a_difference_larger_than_rounding_is_over_the_limit():
    losses = {ONE_DEVICE: [3.0, 2.0], ROUNDED: [3.0, 2.0 + 1e-7], "4 devices": [3.0, 2.0 - 3e-7]}
    difference, limit = judge(losses, 1e-7)
    assert difference["4 devices"] <= limit
    losses["4 devices"] = [3.0 + 1e-5, 2.0]
    difference, limit = judge(losses, 1e-7)
    assert difference["4 devices"] > limit
    assert limit == pytest.approx(8e-7)


@pytest.mark.skipif(not PROCESSES.exists(), reason="it finds processes in /proc")
@pytest.mark.parametrize("killed", [pytest.param("the script", marks=pytest.mark.slow), "one of two workers"])
def test_no_process_outlives_a_kill(tmp_path, killed):
    way = {"way": "two", "rounded": False, "hidden": 4, "batch": 8, "length": 6, "learning_rate": 0.1}
    arguments = [str(tmp_path / "two"), json.dumps(way | {"dtype": "float32", "seed": 0}), "1000000", "10", "2"]
    launching = f"from examples.many_devices.train import launch; launch({arguments!r}, 2, {PATIENCE})"
    script = subprocess.Popen([sys.executable, "-c", launching], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: len(workers(tmp_path)) == 2)
        both = workers(tmp_path)
        if killed == "the script":
            wait_until((tmp_path / "two" / "metrics.csv").exists)  # training has begun
        os.kill(script.pid if killed == "the script" else both[1], signal.SIGKILL)
        wait_until(lambda: not workers(tmp_path))
        _, errors = script.communicate(timeout=PATIENCE)
        assert script.returncode == (-9 if killed == "the script" else 1)
        assert killed == "the script" or errors.decode().endswith("a process ended with code -9\n")
    finally:
        for number in [script.pid, *workers(tmp_path)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def test_workers_that_take_too_long_are_ended(tmp_path):
    with pytest.raises(Refused, match=r"--patience 0\.2: .*late is not done"):
        launch([str(tmp_path / "late"), "{}", "1", "1", "1"], 2, 0.2)
    assert workers(tmp_path) == []


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    run = Run(tmp_path / "run", {})
    run.finish({"result": 1})
    run.plot("curve.png", {"line": ([1], [1])})
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_is_refused(command, tmp_path):
    (tmp_path / "file").write_text("")
    refused_in_one_line(command(main, "--devices", 3), "--devices 3", "even")
    refused_in_one_line(command(main, "--devices", 4, "--batch", 6), "--batch 6", "multiple")
    refused_in_one_line(command(main, "--steps", 0), "--steps")
    refused_in_one_line(command(main, "--length", -1), "--length")
    refused_in_one_line(command(main, "--dtype", "float16"), "--dtype", "float16")
    refused_in_one_line(command(main, "--out", tmp_path / "file" / "run"), "--out", "write to")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "settings.json").write_text('{"example": "char_lm"}')
    refused_in_one_line(command(main, "--out", tmp_path / "other"), "char_lm", "many_devices")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["settings.json"]


@pytest.mark.slow
def test_a_run_of_fewer_steps_continues_to_the_same_files(command, tmp_path):
    for folder, steps in (("whole", 5), ("longer", 2), ("longer", 5)):
        assert command(main, *SMALL, "--steps", steps, "--out", tmp_path / folder)[0] == 0
    assert contents(tmp_path / "whole") == contents(tmp_path / "longer")
    code, _, err = command(main, *SMALL, "--steps", 4, "--out", tmp_path / "whole")
    assert code == 2
    assert "already has 5 steps" in err
