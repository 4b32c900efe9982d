"""The options of every subcommand, a frozen value each. The docstring is what ``--help`` says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from crosscheck.commands.cli.choices import (
    CASES,
    IMPLEMENTATIONS,
    MATRIX_CASES,
    Dtype,
    Loss,
    Optimizer,
    complete_from,
)
from crosscheck.core.missing import installed_version

VERSIONS = ("jax", "flax", "torch")
JOBS = min(os.cpu_count() or 1, 4)
SHORTEST, NARROWEST, MOST_STEPS = 20, 4, 100_000  # of gradient-flow

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results to this file.")]
ReportFolder = Annotated[
    Path | None,
    typer.Option("--report", metavar="DIR", help="Write a page with every curve and limit to DIR/index.html."),
]
Jobs = Annotated[int, typer.Option(min=1, help="The number of processes.")]


def list_of(names: Sequence[str], text: str, metavar: str = "NAME[,NAME...]") -> Any:
    """Return an option that takes a list of ``names``; its help is ``text`` and the names."""
    shown = f"{text}: {', '.join(names)}. May be repeated."
    return typer.Option(metavar=metavar, help=shown, autocompletion=complete_from(names))


def print_versions(asked: bool) -> None:
    """Print the installed versions and stop. This imports nothing."""
    if asked:
        beside = ", ".join(f"{name} {installed_version(name)}" for name in VERSIONS)
        typer.echo(f"jax-lstm {installed_version('jax-lstm')} ({beside})")
        raise typer.Exit


@dataclass(frozen=True)
class Suite:
    """Cross-check jax_lstm, its backends, torch_ref and torch.nn.LSTM: outputs and gradients, in float64 and float32.

    The table goes to stdout, progress to stderr. Exit code 0: all as expected; 1: not; 2: could not run.
    """

    case: Annotated[list[str] | None, list_of(CASES, "Run only these cases")] = None
    list_cases: Annotated[bool, typer.Option("--list", help="List the cases and stop.")] = False
    json_file: JsonFile = None
    report: ReportFolder = None
    against: Annotated[
        list[str] | None,
        list_of(
            IMPLEMENTATIONS,
            "Judge only jax_lstm and these implementations (flax stands for all that begin with it)",
        ),
    ] = None
    shrinking: Annotated[
        bool, typer.Option("--shrink", help="Reduce a failing case to the smallest one that still fails.")
    ] = False
    jobs: Jobs = JOBS
    versions: Annotated[
        bool,
        typer.Option("--version", callback=print_versions, is_eager=True, help="Print the versions and stop."),
    ] = False


@dataclass(frozen=True)
class Checkpoint:
    """Find every torch LSTM in a checkpoint, cross-check each on its real weights, and export them to Flax.

    Finds nn.LSTM stacks and LSTMCells at any prefix. The content of the file tells its format. Nothing in it is run:
    objects of other classes are not made, and listed. Weight norm, pruning and WeightDrop are folded.
    Exit code 0: every LSTM agrees; 1: not; 2: could not run, and nothing was written.
    """

    file: Annotated[
        Path,
        typer.Argument(help="A file of torch, safetensors, NumPy, Keras or ONNX, or the index of shards."),
    ]
    prefix: Annotated[str, typer.Option(help="Only LSTMs at or below this name, such as model.encoder.")] = ""
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="OUT",
            help="Write the LSTMs as Flax parameters into a new folder: params.safetensors and an orbax directory.",
        ),
    ] = None
    json_file: JsonFile = None
    report: ReportFolder = None


@dataclass(frozen=True)
class Faults:
    """Plant every fault of the catalogue in the reference and count how many the verdict sees: the mutation score.

    Beside it: false alarms on right implementations and random right configurations, the mutation score of tolerance
    rules in use elsewhere on the same results, and mutants of the comparer itself. Exit code 0: every fault killed, no
    false alarm, every mutant noticed; 1: not; 2: could not run.

    With --models: right pairs of many architectures, and mistakes in them, each on random problems. Exit code 0: no
    false alarm, few problems that cannot be decided, no mistake that survives; 1: not; 2: could not run.
    """

    models: Annotated[bool, typer.Option("--models", help="Judge pairs of models other than an LSTM.")] = False
    quick: Annotated[
        bool, typer.Option("--quick", help="Short sequences and fewer right configurations, or fewer models.")
    ] = False
    list_faults: Annotated[
        bool, typer.Option("--list", help="List the faults, or the pairs and mistakes, and stop.")
    ] = False
    jobs: Jobs = JOBS
    json_file: JsonFile = None


@dataclass(frozen=True)
class GradientFlow:
    """Measure how gradients flow back through time, in an RNN and an LSTM, by jax_lstm and torch_ref.

    Norms of dL/dh_t and dL/dc_t for a loss on the last step, singular values of one-step Jacobians and of their
    products, the share that flows along c, per forget bias, before and after training; default initialisation, float64.
    Exit code 0: both frameworks agree; 1: not; 2: could not run.
    """

    length: Annotated[int, typer.Option(help=f"Time steps, at least {SHORTEST}.")] = 1_000
    hidden: Annotated[int, typer.Option(help=f"Hidden units, at least {NARROWEST}.")] = 64
    train_steps: Annotated[
        int, typer.Option(help=f"Steps of the short training, at most {MOST_STEPS:,}; 0 leaves it out.")
    ] = 600
    seed: Annotated[int, typer.Option(help="Seed of weights, inputs, cotangents and training.")] = 0
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")
    ] = None
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page to DIR/index.html, and its plots as PNG beside it.")
    ] = None
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write the page of plots to this file.")] = None
    jobs: Annotated[int, typer.Option(help="The number of processes that measure networks.")] = JOBS


@dataclass(frozen=True)
class Gradients:
    """Gradients over one long sequence: jax_lstm and torch.nn.LSTM, float64 and float32, error against time.

    Batch 2, 8 features. Prints the error of outputs and of dL/dx_t beside its limit along the sequence, how far the
    gradient survives, and which steps are too small to check (vacuous) in which precision check. 100,000 steps take
    some minutes and less than 4 GB. Exit code 0: agree; 1: not; 2: could not run.
    """

    length: Annotated[int, typer.Option(min=2, help="Time steps.")] = 1_000
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units.")] = 32
    forget_bias: Annotated[
        str | None,
        typer.Option(metavar="chrono|NUMBER", help="'chrono' (log U(1, T-1)) or a number to add to the default."),
    ] = None
    loss: Annotated[Loss, typer.Option(help="'last': a loss on the last step only; 'all': on every output.")] = "last"
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, inputs and cotangents.")] = 0
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Judge jax_lstm with this option too, in chunks of this many steps.")
    ] = None
    json_file: JsonFile = None
    report: ReportFolder = None


@dataclass(frozen=True)
class Matrix:
    """Judge every implementation in every case that it supports: ours, torch's paths and other libraries'.

    One table per precision check, one column per implementation: errors of outputs and of gradients in units of their
    limits. Other libraries' weights come by jax_lstm.convert. Their disagreements are a result and no failure.
    Exit code 0: jax_lstm is as expected everywhere; 1: it is not; 2: could not run.
    """

    only: Annotated[
        list[str] | None,
        list_of(IMPLEMENTATIONS, "These implementations beside jax_lstm; flax stands for all that begin with it"),
    ] = None
    case: Annotated[list[str] | None, list_of(MATRIX_CASES, "Run only these cases")] = None
    jobs: Jobs = JOBS
    json_file: JsonFile = None


@dataclass(frozen=True)
class Notebook:
    """Name how the teaching notebook's LSTM class departs from its equations, by its behaviour only.

    Exit code 0: the published class shows both known departures, the corrected one none, and it agrees with
    jax_lstm.lstm and torch.nn.LSTM; 1: anything else; 2: could not run.
    """

    json_file: JsonFile = None


@dataclass(frozen=True)
class Train:
    """Train Embedding, LSTM and Dense in Flax with optax and in torch with torch.optim, and compare every step.

    The same first weights and the same batches of text, characters in, next characters out. Loss, gradient norm, every
    parameter and the optimizer's state are compared at every step. float64: whole trajectories, and single steps from
    torch's own state. float32: single steps; trajectories are reported, with the step from which they differ. Exit code
    0: agree; 1: not; 2: could not run.
    """

    optimizer: Annotated[Optimizer, typer.Option(help="The same algorithm of optax and of torch.optim.")] = "adam"
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")] = 300
    clip: Annotated[float | None, typer.Option(metavar="NORM", help="Clip the gradient's norm.")] = None
    dtype: Annotated[Dtype, typer.Option(help="What both frameworks compute in.")] = "both"
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the default of the optimizer.")] = None
    batch: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 8
    length: Annotated[int, typer.Option(min=2, help="Characters per row; a single one has no recurrence.")] = 32
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units per layer.")] = 64
    layers: Annotated[int, typer.Option(min=1, help="LSTM layers.")] = 1
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train on this UTF-8 text, not on Python's documentation.")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and batches.")] = 0
    json_file: JsonFile = None
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with both curves to DIR/index.html.")
    ] = None
