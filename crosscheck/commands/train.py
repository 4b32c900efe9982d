"""``crosscheck train``: one model trained in both frameworks from the same weights, on the same batches."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from crosscheck.commands.common import (
    check_json_file,
    check_report_folder,
    fail,
    failures_in_one_line,
    on_stderr,
    output,
    write_page_of,
    write_results,
)
from crosscheck.finding import Outcome, worst
from crosscheck.suite import CaseResult
from crosscheck.text import Corpus, documentation

if TYPE_CHECKING:
    from crosscheck.training.recipe import Recipe
    from crosscheck.training.result import TrainingResult

DTYPES = {"float64": ("float64",), "float32": ("float32",), "both": ("float64", "float32")}
SIDE = "linen.SequenceModel + optax"


def train(
    optimizer: Annotated[str, typer.Option(help="sgd, momentum, adam, adamw or rmsprop.")] = "adam",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")] = 300,
    clip: Annotated[float | None, typer.Option(metavar="NORM", help="Clip the gradient's norm.")] = None,
    dtype: Annotated[str, typer.Option(help="float64, float32 or both.")] = "both",
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the optimizer's own here.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 8,
    length: Annotated[int, typer.Option(min=2, help="Characters of a row; from one alone nothing recurs.")] = 32,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units of a layer.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="LSTM layers.")] = 1,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train on this UTF-8 text, not on Python's documentation.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with both curves to DIR/index.html.")
    ] = None,
) -> None:
    """Train Embedding, LSTM and Dense in Flax with optax beside torch with torch.optim, and compare every step.

    The same first weights and the same batches of text, characters in, next characters out. Loss, gradient norm, every
    parameter and the optimizer's state are compared at every step. float64: whole trajectories, and single steps from
    torch's own state. float32: single steps; the trajectories are reported, with the step where they part. Exit code
    0: agree; 1: not; 2: could not run.
    """
    recipe = _recipe(optimizer, steps, clip, dtype, learning_rate, batch, length, hidden, layers, text, seed)
    check_json_file(json_file)
    check_report_folder(report, json_file)
    command = _command(recipe, dtype, text)
    started = time.perf_counter()
    with failures_in_one_line():
        results = _run(recipe, dtype)
    seconds = (time.perf_counter() - started) / len(results)
    cases = [CaseResult(f"train {r.dtype}", SIDE, Outcome.AGREE, r.verdict, seconds, command) for r in results]
    more = {"training": {r.dtype: r.as_dict() for r in results}, "options": recipe.options}
    content = write_results(json_file, "train", [cases], more)
    if report is not None:
        from crosscheck.report.training_page import training_page  # drawing is slow to import

        write_page_of(lambda: training_page(results, content["environment"], command), report)
    _print(results)
    raise typer.Exit(0 if worst(r.outcome for r in results) is Outcome.AGREE else 1)


def _recipe(optimizer, steps, clip, dtype, learning_rate, batch, length, hidden, layers, text, seed) -> Recipe:
    from crosscheck.training.optimizers import OPTIMIZERS  # optax is slow to import, and other commands do without
    from crosscheck.training.recipe import Recipe

    if optimizer not in OPTIMIZERS:
        fail(f"--optimizer must be one of {', '.join(OPTIMIZERS)}; got {optimizer!r}")
    if dtype not in DTYPES:
        fail(f"--dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    for name, value in (("--clip", clip), ("--learning-rate", learning_rate)):
        if value is not None and not 0 < value < float("inf"):
            fail(f"{name} must be a number over 0; got {value}")
    corpus = _corpus(text)
    if length > corpus.longest():
        where = "Python's documentation" if text is None else str(text)
        fail(
            f"--length {length} is too long for {where}: its smaller part, the last tenth, which is held out, "
            f"allows {max(corpus.longest(), 0)}; give a longer text or a smaller --length"
        )
    sizes = {"batch": batch, "length": length, "hidden_size": hidden, "num_layers": layers}
    return Recipe(corpus, optimizer, steps, learning_rate, clip, **sizes, seed=seed)


def _corpus(text: Path | None) -> Corpus:
    try:
        return Corpus.of(documentation() if text is None else text.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"--text {text}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"--text {text}: not UTF-8 text")
    except ValueError as error:
        fail(f"--text {text}: {error}")


def _command(recipe: Recipe, dtype: str, text: Path | None) -> str:
    words = [f"--{name.replace('_', '-')} {value}" for name, value in recipe.options.items() if value is not None]
    words += [f"--dtype {dtype}", f"--text {shlex.quote(str(text))}" * (text is not None)]
    return " ".join(filter(None, ["crosscheck train", *words]))


def _run(recipe: Recipe, dtype: str) -> list[TrainingResult]:
    from crosscheck.training.judge import judge_training
    from crosscheck.training.lockstep import TRAJECTORIES, Lockstep
    from crosscheck.training.result import results_of

    run = Lockstep(recipe, tuple(lane for lane in TRAJECTORIES if lane.dtype in DTYPES[dtype]))
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    console = on_stderr()
    shown = TextColumn("loss {task.fields[torch]:.4f} torch, {task.fields[jax]:.4f} jax")
    with Progress(*columns, shown, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(recipe.optimizer, total=recipe.steps, torch=float("nan"), jax=float("nan"))
        for moment in run.advance():
            torch_loss, jax_loss, *_ = moment.losses.values()
            bar.update(task, advance=1, torch=torch_loss, jax=jax_loss)
    return results_of(run, judge_training(run))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


def _print(results: Sequence[TrainingResult]) -> None:
    from crosscheck.report.training import closing_line, conventions, loss_table, quantity_table

    console = output()
    console.print(loss_table(results))
    console.print()
    console.print(quantity_table(results))
    console.print()
    for line in conventions(results[0].recipe):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print()
    for result in results:
        if result.outcome is not Outcome.AGREE:
            console.print(str(result.verdict), style="red", highlight=False, markup=False, soft_wrap=True)
        for note in result.notes if result.outcome is Outcome.AGREE else ():
            console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    ok = all(result.verdict.ok for result in results)
    console.print(closing_line(results), style="green" if ok else "red", highlight=False, markup=False)
