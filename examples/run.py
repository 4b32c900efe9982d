"""A run of an example: a folder from which a killed script continues to the same numbers.

    settings.json   the settings of the run; a folder with other settings is refused
    checkpoints/    Orbax checkpoints
    metrics.csv     one line per checkpoint
    results.json    the results, written at the end
    curve.png       a plot of the metrics

These files do not depend on the time, or on how often the script was stopped. If several processes share a run
(jax.distributed), all of them call `train`, since Orbax synchronizes them at each checkpoint. The first one writes the
files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import orbax.checkpoint as ocp
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from examples.files import whole

State = Any  # a pytree of arrays: parameters, optimizer state
Metrics = dict[str, Any]
UsageError = typer.BadParameter.__bases__[0]  # click's; typer does not export it


class Refused(Exception):
    """Input that the script cannot work with. The user sees the text as one line."""


class Run:
    """A training in ``folder``. Its numbers depend only on ``settings`` and on the number of steps."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder.absolute()
        if not _first_process():
            return
        settings = json.loads(json.dumps(settings))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim(settings)
        except OSError as error:
            raise Refused(f"--out {folder}: {error.strerror}; give a folder that you can write to") from None

    def train(
        self,
        state: State,
        step: Callable[[State, int], tuple[State, Metrics]],
        steps: int,
        every: int,
        evaluate: Callable[[State], Metrics] | None = None,
        until: Callable[[Metrics], bool] | None = None,
    ) -> State:
        """Train from the last checkpoint, or from ``state`` if there is none, and return the last state.

        Args:
          state: The initial state.
          step: ``state, metrics = step(state, n)``, called for every n below ``steps``.
          steps: The number of steps.
          every: The number of steps between checkpoints. With each checkpoint, metrics.csv gets a line: the means of
            the metrics since the last line, and what ``evaluate`` returns.
          evaluate: Returns more metrics of a state.
          until: Returns whether training can stop after a given line of metrics.csv.
        """
        until = until or (lambda row: False)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        with ocp.CheckpointManager(self.folder / "checkpoints", options=options) as checkpoints, _bar() as bar:
            done = checkpoints.latest_step() or 0
            if done > steps:
                raise Refused(f"--steps {steps}: the run in {self.folder} already has {done} steps; give more")
            if done:
                state = self._restore(checkpoints, done, state)
            rows, recent = [row for row in self.metrics() if row["step"] <= done], []
            task = bar.add_task(self.folder.name, total=steps, completed=done, shown="")
            for n in range(done, steps):
                if rows and not recent and until(rows[-1]):
                    break
                state, metrics = step(state, n)
                recent.append(jax.tree.map(float, jax.device_get(metrics)))
                if (n + 1) % every == 0 or n + 1 == steps:
                    means = {name: sum(m[name] for m in recent) / len(recent) for name in metrics}
                    rows.append({"step": n + 1} | means | (evaluate(state) if evaluate else {}))
                    recent = []
                    self._write("metrics.csv", _as_csv(rows))
                    checkpoints.save(n + 1, args=ocp.args.StandardSave(state))
                    _log(bar, self.folder.name, rows[-1])
                bar.update(task, completed=n + 1, shown=_numbers((recent or rows)[-1]))
        return state

    def metrics(self) -> list[dict[str, float]]:
        """Return the lines of metrics.csv."""
        file = self.folder / "metrics.csv"
        if not file.exists():
            return []
        with file.open(newline="") as lines:
            return [{k: int(v) if k == "step" else float(v) for k, v in row.items()} for row in csv.DictReader(lines)]

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json, and curve.png if there are metrics."""
        self._write("results.json", json.dumps(results, indent=1) + "\n")
        rows = self.metrics()
        if not rows:
            return
        self.plot("curve.png", {n: ([r["step"] for r in rows], [r[n] for r in rows]) for n in rows[0] if n != "step"})

    def plot(
        self, name: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str = "step", y: str = ""
    ) -> None:
        """Plot ``lines``, a dict of label -> (x, y). They differ in style and marker too, not only in colour."""
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        styles = [("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ("-", "x"), ("--", "+"), (":", "v"), ("-.", "*")]
        for n, (label, (along, values)) in enumerate(lines.items()):
            line, marker = styles[n % len(styles)]
            axes.plot(along, values, line, marker=marker, markevery=0.1, label=label)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2)  # a place that hides no line
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=120, metadata={"Software": None})
        self._write(name, image.getvalue())

    def _restore(self, checkpoints: ocp.CheckpointManager, done: int, state: State) -> State:
        try:
            return checkpoints.restore(done, args=ocp.args.StandardRestore(state))
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise Refused(
                f"{self.folder}/checkpoints: step {done} does not fit this model ({reason}); give another folder"
            ) from None

    def _claim(self, settings: dict[str, Any]) -> None:
        file = self.folder / "settings.json"
        if file.exists():
            stored = _read_settings(file)
            different = [k for k in {**stored, **settings} if stored.get(k) != settings.get(k)]
            if different:
                differs = ", ".join(f"{k} {stored.get(k)!r} there, {settings.get(k)!r} here" for k in different)
                raise Refused(f"--out {self.folder}: holds another run ({differs}); give another folder")
        elif any(not f.name.startswith(".settings.json.") for f in self.folder.iterdir()):
            raise Refused(f"--out {self.folder}: not empty, and not a run of an example; give another folder")
        else:
            self._write("settings.json", json.dumps(settings, indent=1) + "\n")

    def _write(self, name: str, content: str | bytes) -> None:
        if _first_process():
            with whole(self.folder / name) as file:
                file.write_bytes(content if isinstance(content, bytes) else content.encode())


def by_model(rows: list[dict[str, Any]], quantity: str) -> dict[str, tuple[list[float], list[float]]]:
    """Return the lines of `Run.plot`, one per model, from rows with "lag", "model" and the quantity."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        lags, values = lines.setdefault(row["model"], ([], []))
        lags.append(row["lag"])
        values.append(row[quantity])
    return lines


def start(main: Callable[..., int | None]) -> None:
    """Run ``main`` with the options of the command line. Wrong input ends with one line on stderr and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        code = app(standalone_mode=False)
    except Refused as error:
        _leave(str(error))
    except UsageError as error:
        _leave(error.format_message())
    except OSError as error:
        _leave(f"{error.filename or 'output'}: {error.strerror or error}")
    except typer.Abort:
        raise SystemExit(130) from None
    raise SystemExit(code)


def _leave(message: str) -> NoReturn:
    typer.echo(" ".join(message.split()), err=True)
    raise SystemExit(2) from None


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        raise Refused(f"--out {file.parent}: its settings.json is not one of an example; give another folder") from None


def _first_process() -> bool:
    return jax.process_index() == 0


def _as_csv(rows: list[Metrics]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _numbers(row: Metrics) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


def _bar() -> Progress:
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not (console.is_terminal and _first_process())
    return Progress(*columns, TextColumn("{task.fields[shown]}"), console=console, disable=hidden)


def _log(bar: Progress, name: str, row: Metrics) -> None:
    """Print a line if stderr is not a terminal, which shows a progress bar instead."""
    if not bar.console.is_terminal and _first_process():
        bar.console.print(f"{name}  step {row['step']}  {_numbers(row)}", highlight=False, markup=False)
