"""``crosscheck notebook``: its options."""

from __future__ import annotations

from crosscheck.commands.cli.options import JsonFile
from crosscheck.commands.progress import loading


def command(json_file: JsonFile = None) -> None:
    """Name how the teaching notebook's LSTM class departs from its equations, by its behaviour only.

    Exit code 0: the published class shows both known departures, the corrected one none, and it agrees with
    jax_lstm.lstm and torch.nn.LSTM; 1: anything else; 2: could not run.
    """
    with loading():
        from crosscheck.commands.notebook import run
    run(json_file)
