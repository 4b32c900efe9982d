"""Ctrl-C ends every command at once, at any time, and leaves neither a process nor half a file behind."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from crosscheck.commands.interrupts import on_interrupt
from jax_lstm._src import files
from jax_lstm._src.files import remove_unfinished, unfinished, whole
from tests import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

SECONDS = 20  # 2 are promised; a loaded machine takes longer; without the tested code it takes 30
START = 120
PROCESSES = 4  # the command, its two workers, and the process that starts them
LONG = {
    "suite": ["crosscheck", "--jobs", "1", "--case", "long-10000"],
    "suite, workers": ["crosscheck", "--jobs", "2", "--case", "long-10000,long-alive"],
    "matrix": ["crosscheck", "matrix", "--jobs", "2", "--only", "flax"],
    "gradients": ["crosscheck", "gradients", "--length", "50000"],
    "faults": ["crosscheck", "faults", "--jobs", "2"],
    "train": ["crosscheck", "train", "--steps", "100000"],
    "gradient-flow": ["crosscheck", "gradient-flow", "--jobs", "2"],
    "benchmarks": ["benchmarks", "--shape", "10000,4,32,128"],
    "checkpoint": ["crosscheck", "checkpoint", "FILE"],
    "notebook": ["crosscheck", "notebook"],
}


class Run:
    """The command in a separate process, whose stderr is a terminal."""

    def __init__(self, arguments: list[str], folder: Path):
        self.tag = f"CROSSCHECK_TEST={folder}"
        name, _, value = self.tag.partition("=")
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {name: value, "PYTHONPATH": paths, "COLUMNS": "100", "TERM": "xterm"}
        self._terminal, theirs = pty.openpty()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else the child ignores it if pytest does
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
            )
        finally:
            signal.signal(signal.SIGINT, before)
            os.close(theirs)
        self.shown = ""

    def read(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.shown += os.read(self._terminal, 10_000).decode()
            except OSError:  # the other end is closed
                time.sleep(seconds)

    def wait_for(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + START
        while not done():
            assert time.monotonic() < end, self.shown
            assert self.process.poll() is None, self.shown
            self.read(0.1)

    def processes(self) -> list[int]:
        """Return the living processes that were started with this environment, including the command itself."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.tag.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                pass
        return found

    def end(self, number: int = signal.SIGINT) -> float:
        self.process.send_signal(number)
        started = time.monotonic()
        while self.process.poll() is None and time.monotonic() < started + 2 * SECONDS:
            self.read(0.05)
        return time.monotonic() - started

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


@contextmanager
def running(arguments: list[str], folder: Path) -> Iterator[Run]:
    run = Run(arguments, folder)
    try:
        yield run
    finally:
        run.close()


def assert_ended(run: Run, seconds: float, code: int = 130) -> None:
    assert seconds < SECONDS
    assert run.process.returncode == code
    end = time.monotonic() + SECONDS
    while run.processes() and time.monotonic() < end:  # a killed process takes a moment to end
        time.sleep(0.05)
    assert run.processes() == []
    assert "Traceback" not in run.shown
    assert "Error" not in run.shown
    assert run.shown.rindex("\x1b[?25h") > run.shown.rindex("\x1b[?25l")  # the cursor is back


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a file of LSTMs that take a minute to check."""
    path = tmp_path_factory.mktemp("checkpoint") / "a.pt"
    torch.save(torch.nn.ModuleList([torch.nn.LSTM(300, 300, 3) for _ in range(9)]).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("name", LONG)
def test_ctrl_c_while_it_computes(name, tmp_path, checkpoint):
    with running([checkpoint if word == "FILE" else word for word in LONG[name]], tmp_path) as run:
        run.wait_for(
            lambda: re.search(r" [1-9] s", run.shown.rpartition("loading")[2].partition("\x1b[2K")[2]) is not None
        )
        assert_ended(run, run.end())
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_it_imports(tmp_path):
    with running(LONG["suite"], tmp_path) as run:
        run.wait_for(lambda: "loading JAX and torch" in run.shown)
        assert_ended(run, run.end())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_worker_is_left(number, tmp_path):
    with running(LONG["suite, workers"], tmp_path) as run:
        run.wait_for(lambda: len(run.processes()) >= PROCESSES)
        assert_ended(run, run.end(number), 128 + number)


WORKS = """
import os, sys, time
from functools import partial
from crosscheck.core.processes import run_all

if __name__ == "__main__":
    pieces = {n: partial(os.write, 1, b"%d\\n" % n) for n in range(2)} | {n: partial(time.sleep, 60) for n in (2, 3)}
    for _ in run_all(pieces, 2):
        pass
"""


def test_no_worker_outlives_a_command_that_is_killed(tmp_path):
    (tmp_path / "works.py").write_text(WORKS)
    with started("import runpy; runpy.run_path('works.py', run_name='__main__')", tmp_path) as process:
        assert sorted([process.stdout.readline(), process.stdout.readline()]) == [b"0\n", b"1\n"]
        process.kill()
        process.wait()
        assert select.select([process.stdout], [], [], SECONDS)[0]  # closed, since no worker holds it any more
        assert process.stdout.read() == b""


def test_the_line_says_what_runs_and_for_how_long_from_the_first_second_on(tmp_path):
    with running(LONG["suite, workers"], tmp_path) as run:
        run.wait_for(lambda: "loading JAX and torch 0 s" in run.shown)
        run.wait_for(lambda: "long-10000 0 s, long-alive 0 s" in run.shown)
        run.wait_for(lambda: "long-10000 1 s, long-alive 1 s" in run.shown)


def test_what_is_unfinished_is_removed_and_what_is_whole_stays(tmp_path):
    (tmp_path / "done.txt").write_text("before")
    with whole(tmp_path / "done.txt") as file:
        file.write_text("after")
    try:
        with whole(tmp_path / "done.txt") as file, unfinished(tmp_path / "folder") as folder:
            folder.mkdir()
            (folder / "a").write_text("half")
            file.write_text("half")
            remove_unfinished()
            assert [path.name for path in tmp_path.iterdir()] == ["done.txt"]
            raise InterruptedError
    except InterruptedError:
        pass
    assert not files._unfinished
    assert (tmp_path / "done.txt").read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["done.txt"]


@contextmanager
def started(code: str, folder: Path) -> Iterator[subprocess.Popen]:
    """Run ``code`` in a Python that does not ignore SIGINT."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        with process.stdout:
            yield process
    finally:
        process.kill()
        process.wait()


WRITES = """
import sys, time
from pathlib import Path
from crosscheck.commands.common import writing
from crosscheck.commands.interrupts import end_on_signals

from jax_lstm._src.files import whole

end_on_signals()
with writing("--json", Path("out.json")), whole(Path("out.json")) as file:
    file.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_half_a_file_does_not_survive(tmp_path):
    with started(WRITES, tmp_path) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
    assert list(tmp_path.iterdir()) == []


STARTS = """
import subprocess, time
from crosscheck.commands.interrupts import end_on_signals

end_on_signals()
print(subprocess.Popen(["sh", "-c", "sleep 60; true"]).pid, flush=True)
time.sleep(60)
"""


def test_what_the_command_started_ends_with_it():
    """For example, torch.compile runs a compiler as a process."""
    with started(STARTS, ROOT) as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
    end = time.monotonic() + SECONDS
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < end
        time.sleep(0.05)


IGNORES = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from crosscheck.commands.interrupts import end_on_signals

end_on_signals()
print("ready", flush=True)
time.sleep(60)
"""


def test_a_signal_that_is_ignored_stays_so():
    """A shell starts a job in the background with SIGINT ignored."""
    with started(IGNORES, ROOT) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143


def test_workers_do_not_see_ctrl_c(tmp_path):
    """A terminal sends it to all processes, but only the command acts on it."""
    with running(LONG["suite, workers"], tmp_path) as run:
        run.wait_for(lambda: len(run.processes()) >= PROCESSES)
        before = run.processes()
        for pid in before:
            if pid != run.process.pid:
                os.kill(pid, signal.SIGINT)
        time.sleep(2)
        assert run.processes() == before
        assert run.process.poll() is None
        assert "Traceback" not in run.shown


def test_what_is_over_is_not_undone():
    from crosscheck.commands import interrupts

    with on_interrupt(print):
        assert interrupts._undo == [print]
    assert interrupts._undo == []
