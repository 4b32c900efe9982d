"""The start of a program, before anything is imported that may be missing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from crosscheck.core.missing import what_is_missing


def run_program(name: str, load: Callable[[], Any], help_text: str) -> NoReturn:
    """Run a command line and end the process. A package that is missing is one line on stderr and exit code 2.

    Args:
      name: the program's name, for messages.
      load: imports and returns the typer app.
      help_text: what ``--help`` prints if the packages of the command line are not installed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until end_on_signals, which takes longer to import
    from crosscheck.commands.interrupts import end_on_signals

    end_on_signals()
    if hasattr(signal, "SIGPIPE"):  # a reader such as head that closes the pipe ends the program silently
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        try:
            app = load()
        except ModuleNotFoundError as error:
            if what_is_missing(error) and {"--help", "-h"} & set(sys.argv[1:]):
                sys.stdout.write(help_text)
                raise SystemExit(0) from None
            raise
        app(prog_name=name)
    except ModuleNotFoundError as error:
        line = what_is_missing(error)
        if line is None:
            raise
        _fail(name, line)
    except OSError as error:
        _fail(name, error.strerror or str(error))
    raise AssertionError("the app exits")


def _fail(name: str, line: str) -> NoReturn:
    """End at once. An output that is full cannot be flushed either."""
    sys.stderr.write(f"{name}: {line}\n")
    sys.stderr.flush()
    os._exit(2)
