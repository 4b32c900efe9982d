"""``crosscheck gradient-flow``: how gradients vanish in an RNN and survive in an LSTM, by both frameworks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from crosscheck.commands.common import (
    check_json_file,
    check_plot_file,
    check_report_folder,
    fail,
    failures_in_one_line,
    output,
    progress,
    show_table,
    write_json_file,
    write_page_of,
    writing,
)
from crosscheck.environment import environment
from crosscheck.flow.content import as_content
from crosscheck.flow.study import Study, run_study
from crosscheck.flow.tables import tables
from crosscheck.flow.training import TRAINED
from crosscheck.flow.words import closing, failures, sentences

SHORTEST, NARROWEST = 20, 4
MOST_NUMBERS = 2**28  # of all Jacobians that torch_ref forms: 2 GiB in float64, and as much again for their parts
MOST_STEPS = 100_000
PIECES = 8 + len(TRAINED)


def gradient_flow(
    length: Annotated[int, typer.Option(help=f"Time steps, at least {SHORTEST}.")] = 1_000,
    hidden: Annotated[int, typer.Option(help=f"Hidden units, at least {NARROWEST}.")] = 64,
    train_steps: Annotated[int, typer.Option(help="Steps of the short training; 0 leaves it out.")] = 600,
    seed: Annotated[int, typer.Option(help="Of weights, inputs, cotangents and training.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page to DIR/index.html, and its plots as PNG beside it.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write the page of plots to this file.")] = None,
    jobs: Annotated[int, typer.Option(help="Measure networks in so many processes.")] = min(os.cpu_count() or 1, 4),
) -> None:
    """Measure how gradients flow back through time, in an RNN and an LSTM, by jax_lstm and torch_ref.

    Norms of dL/dh_t and dL/dc_t for a loss on the last step, singular values of one-step Jacobians and of their
    products, the share that flows along c, by forget bias, before and after training; default initialisation, float64.
    Exit code 0: both frameworks agree; 1: not; 2: could not run.
    """
    _check(length, hidden, train_steps, seed, jobs)
    check_json_file(json_file)
    check_report_folder(report, json_file)
    check_plot_file(plot, json_file)
    command = f"crosscheck gradient-flow --length {length} --hidden {hidden} --train-steps {train_steps} --seed {seed}"
    with failures_in_one_line(), progress() as bar:
        task = bar.add_task("measuring", total=PIECES if train_steps else PIECES - len(TRAINED))
        done = lambda name: bar.update(task, advance=1, description=name)
        study = run_study(length, hidden, seed, train_steps, jobs, done)
    settings = environment()
    write_json_file(json_file, "gradient-flow", as_content(study, settings, command))
    _draw(study, report, plot, settings, command)
    console = output()
    for table in tables(study):
        show_table(console, table.title, table.columns, table.rows, table.columns[1:] if table.numeric else ())
    for line in (*sentences(study), *failures(study), "", closing(study)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if study.ok else 1)


def _check(length, hidden, train_steps, seed, jobs):
    numbers = length * (2 * hidden) ** 2
    for name, value, least in (
        ("--length", length, SHORTEST),
        ("--hidden", hidden, NARROWEST),
        ("--train-steps", train_steps, 0),
        ("--seed", seed, 0),
        ("--jobs", jobs, 1),
    ):
        if value < least:
            fail(f"{name} must be at least {least}; got {value}")
    if train_steps > MOST_STEPS:
        fail(f"--train-steps must be at most {MOST_STEPS}; got {train_steps}")
    if numbers > MOST_NUMBERS:
        fail(
            f"--length {length} --hidden {hidden}: torch_ref forms every Jacobian, {numbers:.1e} numbers, over "
            f"{MOST_NUMBERS:.1e}; jax_lstm.gradient_flow alone goes further"
        )


def _draw(study: Study, report: Path | None, plot: Path | None, settings, command) -> None:
    if report is None and plot is None:
        return
    from crosscheck.flow.page import PNG, study_page  # drawing is slow to import, and most runs draw nothing
    from crosscheck.flow.plot import write_png

    if report is not None:
        write_page_of(lambda: study_page(study, settings, command), report)
        with writing("--report", report):
            write_png(study, report / PNG)
    if plot is not None:
        with writing("--plot", plot):
            write_png(study, plot)
