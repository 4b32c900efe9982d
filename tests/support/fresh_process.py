"""Runs a function in a separate process, without the seconds to import torch and JAX.

The process is forked from a process that has imported both but has started no device. So it behaves like a new process:
it reads XLA_FLAGS itself, and its changes do not affect other processes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests import ROOT

IMPORTED = [
    "tests.support.fresh_process",
    "jax",
    "jax.numpy",
    "numpy",
    "torch",
    "flax.linen",
    "flax.nnx",
    "optax",
    "orbax.checkpoint",
    "matplotlib.figure",
    "rich",
    "typer",
]
_NUMBERS = itertools.count()
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(IMPORTED)
warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX starts no threads before its first device


@dataclass(frozen=True)
class Call:
    """A call of a function that runs in ``process``."""

    process: BaseProcess
    result: Path

    def finish(self) -> tuple[Any, str]:
        """Wait for the end. Return the result, after a round trip through JSON, and ""; or None and the traceback."""
        self.process.join()
        if not self.result.exists():
            return None, f"the process ended with {self.process.exitcode}"
        value, error = json.loads(self.result.read_text())
        self.result.unlink()
        return value, error


def start(function: Callable[..., Any], *arguments: Any, folder: Path, environment: Mapping[str, str]) -> Call:
    """Start to call a function of a module, with ``folder`` as the working directory."""
    result = folder / f"result-{next(_NUMBERS)}.json"
    process = _PROCESSES.Process(target=_work, args=(function, arguments, folder, dict(environment), result))
    process.start()
    return Call(process, result)


def run(function: Callable[..., Any], *arguments: Any, folder: Path, environment: Mapping[str, str]) -> tuple[Any, str]:
    """Start a call with `start`, and return the result of `Call.finish`."""
    return start(function, *arguments, folder=folder, environment=environment).finish()


def _work(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: Path,
    environment: Mapping[str, str],
    result: Path,
) -> None:
    os.environ.update(environment)
    sys.path.insert(0, str(ROOT))
    os.chdir(folder)
    try:
        answer = [function(*arguments), ""]
    except BaseException:
        answer = [None, traceback.format_exc()]
    result.write_text(json.dumps(answer))
    sys.exit(bool(answer[1]))


def printed_by(program: str, arguments: list[str]) -> tuple[int, str]:
    """Run a module, or a script by its path, as the command line does. Return the exit code and all that it prints."""
    import runpy

    sys.argv = [program, *arguments]
    output, code = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            if program.endswith(".py"):
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
    return code, output.getvalue()
