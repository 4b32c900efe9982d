"""``crosscheck train``: one model trained in both frameworks from the same weights, on the same batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from crosscheck.commands.cli.options import Train
from crosscheck.commands.common import check_json_file, check_report_folder, command_line, write_page_of, write_results
from crosscheck.commands.failures import fail, failures_in_one_line
from crosscheck.commands.progress import show_progress
from crosscheck.core.finding import Outcome
from crosscheck.lstm.corpus import Corpus, documentation
from crosscheck.report.terminal import output, say, show
from crosscheck.studies.training.judgement import judge_training
from crosscheck.studies.training.lockstep import TRAJECTORIES, Lockstep
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.report import closing_line, conventions, loss_table, quantity_table, to_json
from crosscheck.studies.training.result import TrainingResult, results_of
from crosscheck.suite.runs import CaseResult

DTYPES = {"float64": ("float64",), "float32": ("float32",), "both": ("float64", "float32")}
PORT = "linen.SequenceModel + optax"


def run(options: Train) -> bool:
    """Train in both frameworks, compare every step, print the tables and return whether they agree."""
    recipe = _recipe(options)
    check_json_file(options.json_file)
    check_report_folder(options.report, options.json_file)
    command = command_line("train", **recipe.options, dtype=options.dtype, text=options.text)
    started = time.perf_counter()
    with failures_in_one_line():
        results = _run(recipe, options.dtype)
    seconds = (time.perf_counter() - started) / len(results)
    cases = [CaseResult(f"train {r.dtype}", PORT, Outcome.AGREE, r.verdict, seconds, command) for r in results]
    training = {r.dtype: to_json(r) for r in results}
    content = write_results(options.json_file, "train", [cases], training=training, options=recipe.options)
    if options.report is not None:
        from crosscheck.studies.training.page import training_page  # drawing is slow to import

        write_page_of(lambda: training_page(results, content["environment"], command), options.report)
    _print(results)
    return content["ok"]


def _recipe(options: Train) -> Recipe:
    for name, value in (("--clip", options.clip), ("--learning-rate", options.learning_rate)):
        if value is not None and not 0 < value < float("inf"):
            fail(f"{name} must be a number over 0; got {value}")
    corpus = _corpus(options.text)
    if options.length > corpus.longest():
        where = "Python's documentation" if options.text is None else str(options.text)
        fail(
            f"--length {options.length} is too long for {where}: the last tenth, which is held out, "
            f"allows {max(corpus.longest(), 0)}; give a longer text or a smaller --length"
        )
    model = {"hidden_size": options.hidden, "num_layers": options.layers}
    batches = {"batch": options.batch, "length": options.length, "seed": options.seed}
    return Recipe(corpus, options.optimizer, options.steps, options.learning_rate, options.clip, **model, **batches)


def _corpus(text: Path | None) -> Corpus:
    try:
        return Corpus.of(documentation() if text is None else text.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"--text {text}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"--text {text}: not UTF-8 text")
    except ValueError as error:
        fail(f"--text {text}: {error}")


def _run(recipe: Recipe, dtype: str) -> list[TrainingResult]:
    run = Lockstep(recipe, tuple(c for c in TRAJECTORIES if c.dtype in DTYPES[dtype]))
    losses = TextColumn("loss {task.fields[torch]:.4f} torch, {task.fields[jax]:.4f} jax")
    columns = (_Speed(), TimeRemainingColumn(), losses)
    with show_progress(recipe.steps, *columns, torch=float("nan"), jax=float("nan")) as work:
        work.begins(recipe.optimizer)
        for step in run.advance():
            torch, jax, *_ = step.loss.values()
            work.advances(torch=torch, jax=jax)
    return results_of(run, judge_training(run))


class _Speed(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


def _print(results: Sequence[TrainingResult]) -> None:
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
