"""``crosscheck notebook``: its options."""

from __future__ import annotations

from crosscheck.commands.cli.options import JsonFile
from crosscheck.commands.progress import loading


def notebook(json_file: JsonFile = None) -> None:
    """Name what the teaching notebook's LSTM class does other than its equations, only from its behaviour.

    Exit code 0: the published class shows both known departures, the corrected one none, and it agrees with
    jax_lstm.lstm and torch.nn.LSTM; 1: anything else; 2: could not run.
    """
    with loading():
        from crosscheck.commands.notebook import run
    run(json_file)
