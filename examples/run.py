"""What the examples share: a run is a folder that a killed script continues from, to the same numbers.

    settings.json   what the run is: a folder of other settings is refused, by name
    checkpoints/    orbax; written aside and renamed, so never half there
    metrics.csv     one line every so many steps, up to the last checkpoint
    results.json    what the script found, when it is done
    curve.png       the metrics, drawn

Nothing in these files depends on time or on how often the script was stopped. Of several processes that share a run
(jax.distributed) all call `train`, since Orbax has them meet at each checkpoint; the first one writes the files.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

State = Any  # a pytree of arrays: parameters, optimizer state
Metrics = dict[str, Any]
WrongUsage = typer.BadParameter.__bases__[0]  # click's UsageError, which typer has under no name of its own


class Refused(Exception):
    """Input that the script cannot work with; its text is shown as one line."""


class Run:
    """One training in ``folder``. ``settings`` are what its numbers depend on, by name; not its number of steps."""

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = folder.absolute()
        if not _first_process():
            return
        settings = json.loads(json.dumps(settings))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim(settings)
        except OSError as error:
            raise Refused(f"--out {folder}: {error.strerror}; give a folder that can be written to") from None

    def train(
        self,
        state: State,
        step: Callable[[State, int], tuple[State, Metrics]],
        steps: int,
        every: int,
        evaluate: Callable[[State], Metrics] | None = None,
        until: Callable[[Metrics], bool] | None = None,
    ) -> State:
        """``state, metrics = step(state, n)`` for n up to ``steps``, from the last checkpoint on; the last state.

        Every so many steps: the metrics' means, what ``evaluate`` finds, a line of metrics.csv and a checkpoint.
        A line for which ``until`` holds is the last one.
        """
        until = until or (lambda row: False)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        with ocp.CheckpointManager(self.folder / "checkpoints", options=options) as checkpoints, _bar() as bar:
            done = checkpoints.latest_step() or 0
            if done > steps:
                raise Refused(f"--steps {steps}: the run in {self.folder} has done {done} already; ask for more")
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
                    _tell(bar, self.folder.name, rows[-1])
                bar.update(task, completed=n + 1, shown=_numbers((recent or rows)[-1]))
        return state

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.csv."""
        file = self.folder / "metrics.csv"
        if not file.exists():
            return []
        with file.open(newline="") as lines:
            return [{k: int(v) if k == "step" else float(v) for k, v in row.items()} for row in csv.DictReader(lines)]

    def finish(self, results: dict[str, Any]) -> None:
        """Writes results.json and, of all metrics where there are some, curve.png."""
        self._write("results.json", json.dumps(results, indent=1) + "\n")
        rows = self.metrics()
        if not rows:
            return
        self.plot("curve.png", {n: ([r["step"] for r in rows], [r[n] for r in rows]) for n in rows[0] if n != "step"})

    def plot(
        self, name: str, lines: dict[str, tuple[Sequence[float], Sequence[float]]], x: str = "step", y: str = ""
    ) -> None:
        """Draws ``lines``, label to (x, y), into the folder; told apart without colour too."""
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        styles = [("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ("-", "x"), ("--", "+"), (":", "v"), ("-.", "*")]
        for n, (label, (along, values)) in enumerate(lines.items()):
            line, marker = styles[n % len(styles)]
            axes.plot(along, values, line, marker=marker, markevery=0.1, label=label)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2)  # over no line
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
        self._write(name, drawn.getvalue())

    def _restore(self, checkpoints, done, state):
        try:
            return checkpoints.restore(done, args=ocp.args.StandardRestore(state))
        except ValueError as error:
            why = str(error).splitlines()[0]
            raise Refused(
                f"{self.folder}/checkpoints: step {done} does not fit this model ({why}); give another folder"
            ) from None

    def _claim(self, settings):
        file = self.folder / "settings.json"
        if file.exists():
            there = _read_settings(file)
            other = [k for k in {**there, **settings} if there.get(k) != settings.get(k)]
            if other:
                differs = ", ".join(f"{k} {there.get(k)!r} there, {settings.get(k)!r} here" for k in other)
                raise Refused(f"--out {self.folder}: holds another run ({differs}); give another folder")
        elif any(not f.name.startswith(".settings.json.") for f in self.folder.iterdir()):
            raise Refused(f"--out {self.folder}: not empty, and no run of ours; give another folder")
        else:
            self._write("settings.json", json.dumps(settings, indent=1) + "\n")

    def _write(self, name, content):
        """Aside, then renamed: the file is whole at every moment."""
        if not _first_process():
            return
        aside = self.folder / f".{name}.{os.getpid()}"
        aside.write_bytes(content if isinstance(content, bytes) else content.encode())
        aside.replace(self.folder / name)


def start(main: Callable[..., None]) -> None:
    """Runs ``main`` with the options of the command line; wrong input ends with one line and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        code = app(standalone_mode=False)
    except Refused as error:
        _leave(str(error))
    except WrongUsage as error:
        _leave(error.format_message())
    except OSError as error:
        _leave(f"{error.filename or 'output'}: {error.strerror or error}")
    except typer.Abort:
        raise SystemExit(130) from None
    raise SystemExit(code)


def _leave(message):
    typer.echo(" ".join(message.split()), err=True)
    raise SystemExit(2) from None


def _read_settings(file):
    try:
        return dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        raise Refused(f"--out {file.parent}: its settings.json is none of ours; give another folder") from None


def _first_process():
    return jax.process_index() == 0


def _as_csv(rows):
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _numbers(row):
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")


class _Speed(ProgressColumn):
    def render(self, task):
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


def _bar():
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not (console.is_terminal and _first_process())
    return Progress(*columns, TextColumn("{task.fields[shown]}"), console=console, disable=hidden)


def _tell(bar, name, row):
    """Where no one watches a bar, a line in the log."""
    if not bar.console.is_terminal and _first_process():
        bar.console.print(f"{name}  step {row['step']}  {_numbers(row)}", highlight=False, markup=False)
