"""The command ``python -m benchmarks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from crosscheck.commands.entry import run_program
from crosscheck.core.missing import INSTALL

if TYPE_CHECKING:
    import typer

HELP = f"""\
python -m benchmarks times jax_lstm beside torch, flax, haiku and equinox.

Packages that it needs are not installed. This brings them:

  {INSTALL}
"""


def main() -> NoReturn:
    """Run the benchmark's command line and end the process."""
    run_program("benchmarks", _load, HELP)


def _load() -> typer.Typer:
    from benchmarks.cli import app

    return app


if __name__ == "__main__":
    main()
