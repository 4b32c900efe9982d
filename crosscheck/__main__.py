"""The command ``crosscheck``."""

from __future__ import annotations

from typing import Any, NoReturn

from crosscheck.commands.entry import run_program
from crosscheck.core.missing import INSTALL

HELP = f"""\
crosscheck verifies that jax_lstm, torch_ref and torch.nn.LSTM are the same function, gradients included.

Packages that it needs are not installed. This brings them:

  {INSTALL}

Commands:
  crosscheck                the standard suite
  crosscheck checkpoint     the LSTMs of a checkpoint file
  crosscheck faults         known mistakes, and how many the verdict sees
  crosscheck gradient-flow  how far gradients flow back in time
  crosscheck gradients      one long sequence, error against time
  crosscheck matrix         every LSTM that is installed
  crosscheck notebook       the teaching notebook's LSTM class
  crosscheck train          one model trained in both frameworks
"""


def main() -> NoReturn:
    """Run ``crosscheck`` and end the process."""
    run_program("crosscheck", _load, HELP)


def _load() -> Any:
    from crosscheck.commands.cli import app

    return app


if __name__ == "__main__":
    main()
