"""The command ``crosscheck`` where it begins: before anything is imported that may be missing."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from crosscheck.core.missing import INSTALL, what_is_missing

HELP = f"""\
crosscheck verifies that jax_lstm, torch_ref and torch.nn.LSTM are the same function, gradients included.

Packages that it needs are not installed. This brings them:

  {INSTALL}

Commands:
  crosscheck                the standard suite
  crosscheck bench          time and memory beside other LSTMs
  crosscheck checkpoint     the LSTMs of a checkpoint file
  crosscheck faults         known mistakes, and how many the verdict sees
  crosscheck gradient-flow  how far gradients flow back in time
  crosscheck gradients      one long sequence, error against time
  crosscheck matrix         every LSTM that is installed
  crosscheck notebook       the teaching notebook's LSTM class
  crosscheck train          one model trained in both frameworks
"""


def main() -> NoReturn:
    """Run the command line and end the process. A package that is missing is one line on stderr and exit code 2."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until end_on_signals, which takes longer to import
    from crosscheck.commands.interrupts import end_on_signals

    end_on_signals()
    if hasattr(signal, "SIGPIPE"):  # a reader that has had enough, such as head, ends us quietly
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        try:
            from crosscheck.commands.cli import app
        except ModuleNotFoundError as error:
            if what_is_missing(error) and {"--help", "-h"} & set(sys.argv[1:]):
                sys.stdout.write(HELP)
                raise SystemExit(0) from None
            raise
        app(prog_name="crosscheck")
    except ModuleNotFoundError as error:
        line = what_is_missing(error)
        if line is None:
            raise
        _fail(line)
    except OSError as error:
        _fail(error.strerror or str(error))
    raise AssertionError("the app exits")


def _fail(line: str) -> NoReturn:
    """At once: an output that is full cannot be flushed either."""
    sys.stderr.write(f"crosscheck: {line}\n")
    sys.stderr.flush()
    os._exit(2)


if __name__ == "__main__":
    main()
