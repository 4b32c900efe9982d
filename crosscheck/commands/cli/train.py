"""``crosscheck train``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosscheck.commands.cli.choices import Dtype, Optimizer
from crosscheck.commands.cli.options import JsonFile
from crosscheck.commands.progress import loading


def command(
    optimizer: Annotated[Optimizer, typer.Option(help="The same algorithm of optax and of torch.optim.")] = "adam",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")] = 300,
    clip: Annotated[float | None, typer.Option(metavar="NORM", help="Clip the gradient's norm.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="What both frameworks compute in.")] = "both",
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the default of the optimizer.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 8,
    length: Annotated[int, typer.Option(min=2, help="Characters per row; a single one has no recurrence.")] = 32,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units per layer.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="LSTM layers.")] = 1,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train on this UTF-8 text, not on Python's documentation.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and batches.")] = 0,
    json_file: JsonFile = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with both curves to DIR/index.html.")
    ] = None,
) -> None:
    """Train Embedding, LSTM and Dense in Flax with optax and in torch with torch.optim, and compare every step.

    The same first weights and the same batches of text, characters in, next characters out. Loss, gradient norm, every
    parameter and the optimizer's state are compared at every step. float64: whole trajectories, and single steps from
    torch's own state. float32: single steps; trajectories are reported, with the step from which they differ. Exit code
    0: agree; 1: not; 2: could not run.
    """
    with loading():
        from crosscheck.commands.train import run
    run(optimizer, steps, clip, dtype, learning_rate, batch, length, hidden, layers, text, seed, json_file, report)
