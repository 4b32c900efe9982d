"""The options of ``python -m benchmarks``. Nothing here imports JAX or torch, so that --help needs neither."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.options import Options
from crosscheck.commands.cli.group import SingleCommand
from crosscheck.commands.cli.options import JsonFile, list_of
from crosscheck.commands.progress import loading

DEFAULT = Options()
IMPLEMENTATIONS = (
    "jax_lstm",
    "jax_lstm lean",
    "jax_lstm chunks",
    "jax_lstm backend=cudnn",
    "torch.nn.LSTM",
    "torch.compile",
    "flax.linen",
    "flax.nnx",
    "haiku",
    "equinox",
    "jax.experimental.rnn",
)
WORK = ("forward", "training")
Feature = Literal["plain", "lengths", "projection", "bidirectional", "layers"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
Sweep = Literal["T", "H", "B"]

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]}, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.command("benchmarks", cls=SingleCommand)
def bench(
    shape: Annotated[
        list[str] | None, typer.Option(metavar="T,B,D,H", help="Steps, batch, inputs, hidden. May be repeated.")
    ] = None,
    work: Annotated[list[str] | None, list_of(WORK, "Only this work, by default both")] = None,
    only: Annotated[
        list[str] | None,
        list_of(IMPLEMENTATIONS, "Only these implementations. 'jax_lstm unroll=4' is ours, run so. The names"),
    ] = None,
    feature: Annotated[Feature, typer.Option(help="In place of one plain layer.")] = "plain",
    precision: Annotated[Precision, typer.Option(help="On all sides.")] = "float32",
    sweep: Annotated[Sweep | None, typer.Option(help="Follow the cost along this axis.")] = None,
    runs: Annotated[int, typer.Option(help="At most so many timed runs of each.")] = DEFAULT.runs,
    seconds: Annotated[float, typer.Option(help="For the runs of each shape and work, together.")] = DEFAULT.seconds,
    threads: Annotated[int | None, typer.Option(help="Cores for both frameworks; all by default.")] = None,
    list_implementations: Annotated[
        bool, typer.Option("--list", help="List implementations and shapes, and stop.")
    ] = False,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Print, and draw, the result of an earlier run.")
    ] = None,
    brief: Annotated[
        bool,
        typer.Option(
            "--brief",
            help="Only training, in units of torch.nn.LSTM's time, as a small table in Markdown; --plot alike.",
        ),
    ] = False,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the result into this file.")] = None,
) -> None:
    """Time and memory of jax_lstm beside torch, flax, haiku and equinox, on the same weights and inputs.

    Each implementation is first held to torch.nn.LSTM's results. Then all are timed in turn, one call each a round. Times
    are medians; "to ours" is a time in units of jax_lstm's, and over 1 is slower. Exit code 0: measured, whoever wins;
    1: ours computes something else; 2: could not run.
    """
    with loading():
        from benchmarks.command import run
    run(
        shape,
        work,
        only,
        feature,
        precision,
        sweep,
        runs,
        seconds,
        threads,
        list_implementations,
        from_file,
        brief,
        json_file,
        plot,
    )
