"""``crosscheck gradient-flow``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crosscheck.commands.cli.options import JOBS
from crosscheck.commands.progress import loading

SHORTEST, NARROWEST, MOST_STEPS = 20, 4, 100_000


def command(
    length: Annotated[int, typer.Option(help=f"Time steps, at least {SHORTEST}.")] = 1_000,
    hidden: Annotated[int, typer.Option(help=f"Hidden units, at least {NARROWEST}.")] = 64,
    train_steps: Annotated[
        int, typer.Option(help=f"Steps of the short training, at most {MOST_STEPS:,}; 0 leaves it out.")
    ] = 600,
    seed: Annotated[int, typer.Option(help="Seed of weights, inputs, cotangents and training.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page to DIR/index.html, and its plots as PNG beside it.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write the page of plots to this file.")] = None,
    jobs: Annotated[int, typer.Option(help="The number of processes that measure networks.")] = JOBS,
) -> None:
    """Measure how gradients flow back through time, in an RNN and an LSTM, by jax_lstm and torch_ref.

    Norms of dL/dh_t and dL/dc_t for a loss on the last step, singular values of one-step Jacobians and of their
    products, the share that flows along c, per forget bias, before and after training; default initialisation, float64.
    Exit code 0: both frameworks agree; 1: not; 2: could not run.
    """
    with loading():
        from crosscheck.commands.gradient_flow import run
    run(length, hidden, train_steps, seed, json_file, report, plot, jobs)
