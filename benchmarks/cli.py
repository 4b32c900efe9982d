"""The options of ``python -m benchmarks``. This file imports neither JAX nor torch, so --help needs neither."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.options import KINDS, Feature, Options, Precision, Sweep
from crosscheck.commands.cli.group import SingleCommand
from crosscheck.commands.cli.options import JsonFile, list_of
from crosscheck.commands.progress import loading

DEFAULT = Options()
IMPLEMENTATIONS = (
    "jax_lstm",
    "jax_lstm chunks",
    "jax_lstm backend=scan",
    "jax_lstm backend=native",
    "jax_lstm backend=cudnn",
    "jax_lstm backend=pallas",
    "torch.nn.LSTM",
    "torch.compile",
    "flax.linen",
    "flax.nnx",
    "haiku",
    "equinox",
    "jax.experimental.rnn",
)

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]}, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.command("benchmarks", cls=SingleCommand)
def bench(
    shape: Annotated[
        list[str] | None, typer.Option(metavar="T,B,D,H", help="Steps, batch, inputs, hidden units. May be repeated.")
    ] = None,
    work: Annotated[list[str] | None, list_of(KINDS, "Only this work; both by default")] = None,
    only: Annotated[
        list[str] | None,
        list_of(IMPLEMENTATIONS, "Only these implementations; 'jax_lstm unroll=4' is ours with an option. The names"),
    ] = None,
    feature: Annotated[Feature, typer.Option(help="What the network has in place of one plain layer.")] = "plain",
    precision: Annotated[Precision, typer.Option(help="Of every implementation.")] = "float32",
    sweep: Annotated[Sweep | None, typer.Option(help="Measure the cost along this axis.")] = None,
    runs: Annotated[int, typer.Option(help="The largest number of timed runs of each implementation.")] = DEFAULT.runs,
    seconds: Annotated[float, typer.Option(help="For all runs of one shape and work together.")] = DEFAULT.seconds,
    threads: Annotated[int | None, typer.Option(help="Cores for both frameworks; all by default.")] = None,
    list_implementations: Annotated[
        bool, typer.Option("--list", help="List implementations and shapes, and stop.")
    ] = False,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Print and draw an earlier result.")
    ] = None,
    brief: Annotated[
        bool,
        typer.Option(
            "--brief",
            help="Only training, in units of torch.nn.LSTM's time, as a Markdown table. --plot draws the same.",
        ),
    ] = False,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the result into this file.")] = None,
) -> None:
    """Time jax_lstm beside torch, flax, haiku and equinox, on the same weights and inputs.

    Each implementation is first checked against torch.nn.LSTM. Then all are timed in turn, one call of each per round.
    Times are medians. "to ours" is a time in units of jax_lstm's, and over 1 is slower. Exit code 0: measured, whoever
    wins; 1: ours computes something else; 2: could not run.
    """
    with loading():
        from benchmarks.command import run
    options = Options(
        shape=tuple(shape or ()),
        work=tuple(work or ()),
        only=tuple(only or ()),
        feature=feature,
        precision=precision,
        sweep=sweep,
        runs=runs,
        seconds=seconds,
        threads=threads,
    )
    run(options, list_implementations, from_file, brief, json_file, plot)
