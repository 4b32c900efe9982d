"""Steps of the check: each prints a line, and the check goes on after one that fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LAST_CHARACTERS = 3000  # of the output of a command that fails
# Python compiles the files that it imports. pip would compile all files, which takes longer than the rest.
PIP = {"PIP_COMPILE": "0"}
NOT_FOR_COMMANDS = ("PYTHONPATH", "PYTHONHOME", "PYENV_VERSION", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")


class Failed(Exception):
    """A step failed. The text says what is wrong."""


class Steps:
    """What was done, and what failed."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.notes: list[str] = []

    @contextlib.contextmanager
    def step(self, where: str, what: str) -> Iterator[None]:
        """Run the block as one step. A failure is printed and kept, and the check goes on."""
        started = time.perf_counter()
        try:
            yield
        except Failed as error:
            self.failures.append(f"{where}: {what}")
            print(f"{where:16} {what}: FAILED\n{error}", flush=True)
        else:
            print(f"{where:16} {what}: ok ({time.perf_counter() - started:.0f} s)", flush=True)

    def failed(self, where: str) -> bool:
        """Return whether a step failed there."""
        return any(failure.startswith(f"{where}: ") for failure in self.failures)

    def note(self, where: str, text: str) -> None:
        """Print what was not checked, and why. The end repeats it."""
        self.notes.append(f"{where}: {text}")
        print(f"{where:16} NOT CHECKED: {text}", flush=True)


def run(
    command: Sequence[str | Path], cwd: Path | None = None, code: int = 0, variables: Mapping[str, str] | None = None
) -> str:
    """Run a command and return what it prints. It must end with the given exit code.

    Args:
      command: the program and its arguments.
      cwd: the working directory.
      code: the exit code that is right. If it is not 0, what the command prints on stderr is returned too.
      variables: variables of its environment besides those of this process.

    Raises:
      Failed: it ends otherwise. The text has the end of its output.
    """
    clean = {key: value for key, value in os.environ.items() if key not in NOT_FOR_COMMANDS}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | PIP | dict(variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != code:
        shown = " ".join(str(part) for part in command)
        raise Failed(
            f"{shown}\nended with {done.returncode}, not {code}:\n{(done.stdout + done.stderr)[-LAST_CHARACTERS:]}"
        )
    return done.stdout if code == 0 else done.stdout + done.stderr
