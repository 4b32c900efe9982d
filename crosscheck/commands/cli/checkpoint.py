"""``crosscheck checkpoint``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosscheck.commands.cli.options import JsonFile, ReportFolder
from crosscheck.commands.progress import loading


def command(
    file: Annotated[
        Path,
        typer.Argument(help="A file of torch, safetensors, NumPy, Keras or ONNX, or the index of shards."),
    ],
    prefix: Annotated[str, typer.Option(help="Only LSTMs at or below this name, such as model.encoder.")] = "",
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="OUT",
            help="Write the LSTMs as Flax parameters into a new folder: params.safetensors and an orbax directory.",
        ),
    ] = None,
    json_file: JsonFile = None,
    report: ReportFolder = None,
) -> None:
    """Find every torch LSTM in a checkpoint, cross-check each on its real weights, and export them to Flax.

    Finds nn.LSTM stacks and LSTMCells at any prefix. The content of the file tells its format. Nothing in it is run:
    objects of other classes are not made, and listed. Weight norm, pruning and WeightDrop are folded.
    Exit code 0: every LSTM agrees; 1: not; 2: could not run, and nothing was written.
    """
    with loading():
        from crosscheck.commands.checkpoint import run
    run(file, prefix, export_to, json_file, report)
