"""``crosscheck gradients``: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from crosscheck.commands.cli.choices import Loss
from crosscheck.commands.cli.options import JsonFile, ReportFolder
from crosscheck.commands.progress import loading


def command(
    length: Annotated[int, typer.Option(min=2, help="Time steps.")] = 1_000,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units.")] = 32,
    forget_bias: Annotated[
        str | None,
        typer.Option(metavar="chrono|NUMBER", help="'chrono' (log U(1, T-1)) or a number to add to the default."),
    ] = None,
    loss: Annotated[Loss, typer.Option(help="'last': a loss on the last step only; 'all': on every output.")] = "last",
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, inputs and cotangents.")] = 0,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Judge jax_lstm with this option too, in chunks of this many steps.")
    ] = None,
    json_file: JsonFile = None,
    report: ReportFolder = None,
) -> None:
    """Gradients over one long sequence: jax_lstm and torch.nn.LSTM, float64 and float32, error against time.

    Batch 2, 8 features. Prints the error of outputs and of dL/dx_t beside its limit along the sequence, how far the
    gradient survives, and which steps are too small to check (vacuous) in which precision check. 100,000 steps take
    some minutes and less than 4 GB. Exit code 0: agree; 1: not; 2: could not run.
    """
    with loading():
        from crosscheck.commands.gradients import run
    run(length, hidden, forget_bias, loss, seed, checkpoint_every, json_file, report)
