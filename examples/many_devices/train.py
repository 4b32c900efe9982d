"""Data-parallel training: one device, several, and several processes, each giving the same losses.

An LSTM learns the next character of English text, by one jitted step and nothing but shardings: weights lie on every
device, each device holds its share of the batch, and XLA adds up the gradients. The same script is started

    with 1 device in 1 process,   with N devices in 1 process,   and with N / 2 devices in each of 2 processes,

here on CPU devices that XLA is told to pretend. All differences left are sums taken in another order. How much such
rounding may do is measured too, by a run on one device whose weights are moved by one rounding before each step.

    python -m examples.many_devices.train

`worker.py` is the training; on a cluster it would start on every machine, and find the others by itself.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from examples.rounding import apart
from examples.run import Refused, Run, start

ALONE, ROUNDED = "1 device", "1 device, rounded"


def main(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/many_devices"),
    devices: Annotated[int, typer.Option(min=2, help="devices in all; an even number")] = 8,
    hidden: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[int, typer.Option(min=1, help="sequences a step, over all devices; a multiple of them")] = 64,
    length: Annotated[int, typer.Option(min=1, help="characters a sequence")] = 50,
    steps: Annotated[int, typer.Option(min=1)] = 100,
    every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 10,
    learning_rate: Annotated[float, typer.Option(min=0)] = 0.01,
    dtype: Annotated[Literal["float32", "float64"], typer.Option()] = "float32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    patience: Annotated[float, typer.Option(min=1, help="seconds that each way of training may take")] = 600,
) -> int:
    """Trains on one device, on several, and in two processes, and compares the losses."""
    if devices % 2 or batch % devices:
        raise Refused(f"--devices {devices} --batch {batch}: devices must be even, and the batch a multiple of them")
    ways = {  # name: number of processes, devices in each, whether weights are moved by a rounding
        ALONE: (1, 1, False),
        ROUNDED: (1, 1, True),
        f"{devices} devices": (1, devices, False),
        f"2 processes of {devices // 2}": (2, devices // 2, False),
    }
    settings = {"hidden": hidden, "batch": batch, "length": length, "learning_rate": learning_rate}
    settings |= {"dtype": dtype, "seed": seed}
    run = Run(out, {"example": "many_devices", "devices": devices} | settings)
    losses = {}
    for name, (processes, each, rounded) in ways.items():
        folder = run.folder / name.replace(" ", "_").replace(",", "")
        way = settings | {"way": name, "rounded": rounded}
        launch([str(folder), json.dumps(way), str(steps), str(every), str(each)], processes, patience)
        rows = Run(folder, way).metrics()
        losses[name] = [row["loss"] for row in rows]
    difference, limit = judge(losses, np.finfo(dtype).eps)
    run.finish({"largest difference": difference, "limit": limit, "losses": losses})
    along = [row["step"] for row in rows]
    run.plot("curve.png", {name: (along, values) for name, values in losses.items()}, y="loss, nats a character")
    show(along, losses, difference, limit)
    return 0 if max(difference.values()) <= limit else 1


def judge(losses: dict[str, list[float]], eps: float) -> tuple[dict[str, float], float]:
    """Each way's largest relative difference from one device; and the limit, eight times what one rounding does."""
    difference = {name: apart(values, losses[ALONE]) for name, values in losses.items()}
    return difference, 8 * max(difference[ROUNDED], float(eps))


def launch(arguments: list[str], processes: int, patience: float) -> None:
    """Runs the worker in so many processes at once. When one fails, or time is up, all end; also when this one dies."""
    command = [sys.executable, "-m", "examples.many_devices.worker", *arguments, f"localhost:{free_port()}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}  # the worker says why it has a stdin
    workers: list[subprocess.Popen] = []
    deadline = time.monotonic() + patience
    try:
        for number in range(processes):
            workers.append(subprocess.Popen([*command, str(processes), str(number)], env=environment, **pipes))
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            if time.monotonic() > deadline:
                raise Refused(
                    f"--patience {patience:g}: {arguments[0]} is not done; give it more time or fewer --steps"
                )
            time.sleep(0.05)
        if any(codes):
            raise SystemExit(2 if 2 in codes else f"a process ended with code {next(filter(None, codes))}")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()  # waits, and closes the pipe


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def show(steps: list[int], losses: dict[str, list[float]], difference: dict[str, float], limit: float) -> None:
    shown = sorted({(len(steps) - 1) // 2, len(steps) - 1})
    table = Table("", *(f"loss at step {steps[n]}" for n in shown), "difference")
    for name, values in losses.items():
        table.add_row(name, *(f"{values[n]:.15f}" for n in shown), f"{difference[name]:.1e}")
    judged = "within" if max(difference.values()) <= limit else "BEYOND"
    table.caption = f"{judged} {limit:.1e}, eight times what one rounding a step does"
    Console().print(table)


if __name__ == "__main__":
    start(main)
