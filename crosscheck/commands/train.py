"""``crosscheck train``: one model trained in both frameworks from the same weights, on the same batches."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from crosscheck.commands.common import check_json_file, check_report_folder, write_page_of, write_results
from crosscheck.commands.failures import fail, failures_in_one_line
from crosscheck.commands.progress import Running, shown
from crosscheck.core.finding import Outcome, worst
from crosscheck.lstm.corpus import Corpus, documentation
from crosscheck.report.terminal import output, say, show
from crosscheck.suite.runs import CaseResult

if TYPE_CHECKING:
    from crosscheck.studies.training.recipe import Recipe
    from crosscheck.studies.training.result import TrainingResult

DTYPES = {"float64": ("float64",), "float32": ("float32",), "both": ("float64", "float32")}
PORT = "linen.SequenceModel + optax"


def run(
    optimizer: str,
    steps: int,
    clip: float | None,
    dtype: str,
    learning_rate: float | None,
    batch: int,
    length: int,
    hidden: int,
    layers: int,
    text: Path | None,
    seed: int,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Train in both frameworks, compare every step, print the tables and exit."""
    from crosscheck.studies.training.report import to_json

    recipe = _recipe(optimizer, steps, clip, learning_rate, batch, length, hidden, layers, text, seed)
    check_json_file(json_file)
    check_report_folder(report, json_file)
    command = _command(recipe, dtype, text)
    started = time.perf_counter()
    with failures_in_one_line():
        results = _run(recipe, dtype)
    seconds = (time.perf_counter() - started) / len(results)
    cases = [CaseResult(f"train {r.dtype}", PORT, Outcome.AGREE, r.verdict, seconds, command) for r in results]
    more = {"training": {r.dtype: to_json(r) for r in results}, "options": recipe.options}
    content = write_results(json_file, "train", [cases], more)
    if report is not None:
        from crosscheck.studies.training.page import training_page  # drawing is slow to import

        write_page_of(lambda: training_page(results, content["environment"], command), report)
    _print(results)
    raise typer.Exit(0 if worst(r.outcome for r in results) is Outcome.AGREE else 1)


def _recipe(
    optimizer: str,
    steps: int,
    clip: float | None,
    learning_rate: float | None,
    batch: int,
    length: int,
    hidden: int,
    layers: int,
    text: Path | None,
    seed: int,
) -> Recipe:
    from crosscheck.studies.training.recipe import Recipe

    for name, value in (("--clip", clip), ("--learning-rate", learning_rate)):
        if value is not None and not 0 < value < float("inf"):
            fail(f"{name} must be a number over 0; got {value}")
    corpus = _corpus(text)
    if length > corpus.longest():
        where = "Python's documentation" if text is None else str(text)
        fail(
            f"--length {length} is too long for {where}: the last tenth, which is held out, "
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
    from crosscheck.studies.training.judgement import judge_training
    from crosscheck.studies.training.lockstep import TRAJECTORIES, Lockstep
    from crosscheck.studies.training.result import results_of

    run = Lockstep(recipe, tuple(c for c in TRAJECTORIES if c.dtype in DTYPES[dtype]))
    losses = TextColumn("loss {task.fields[torch]:.4f} torch, {task.fields[jax]:.4f} jax")
    columns = (BarColumn(10), MofNCompleteColumn(), Running(), _Speed(), TimeRemainingColumn(), losses)
    with shown(*columns) as bar:
        running = {recipe.optimizer: time.monotonic()}
        task = bar.add_task("", total=recipe.steps, running=running, torch=float("nan"), jax=float("nan"))
        for step in run.advance():
            torch, jax, *_ = step.loss.values()
            bar.update(task, advance=1, torch=torch, jax=jax)
    return results_of(run, judge_training(run))


class _Speed(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


def _print(results: Sequence[TrainingResult]) -> None:
    from crosscheck.studies.training.report import closing_line, conventions, loss_table, quantity_table

    console = output()
    show(console, loss_table(results))
    show(console, quantity_table(results))
    for line in conventions(results[0].recipe):
        say(console, line)
    console.print()
    for result in results:
        if result.outcome is not Outcome.AGREE:
            say(console, str(result.verdict), "red")
        for note in result.notes if result.outcome is Outcome.AGREE else ():
            say(console, f"note: {note}")
    ok = all(result.verdict.ok for result in results)
    say(console, closing_line(results), "green" if ok else "red")
