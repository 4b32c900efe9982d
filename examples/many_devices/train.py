"""Data-parallel training on one device, on several devices, and in several processes, with the same losses.

An LSTM learns to predict the next character of English text. The code is one jitted step and shardings: every device
has all weights and its rows of the batch, and XLA adds up the gradients. The same worker runs

    with 1 device in 1 process,   with N devices in 1 process,   and with N / 2 devices in each of 2 processes,

on CPU devices that XLA simulates. The losses then differ only because the order of sums differs. To measure how much
such rounding may change, one more run on one device perturbs its weights by one rounding before each step.

    python -m examples.many_devices.train

`worker.py` is the training. On a cluster it would start on every machine.
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

from examples.rounding import largest_difference
from examples.run import Refused, Run, start

ONE_DEVICE, ROUNDED = "1 device", "1 device, rounded"


def main(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/many_devices"),
    devices: Annotated[int, typer.Option(min=2, help="total number of devices; must be even")] = 8,
    hidden: Annotated[int, typer.Option(min=1)] = 64,
    batch: Annotated[int, typer.Option(min=1, help="sequences per step; a multiple of the devices")] = 64,
    length: Annotated[int, typer.Option(min=1, help="characters per sequence")] = 50,
    steps: Annotated[int, typer.Option(min=1)] = 100,
    every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 10,
    learning_rate: Annotated[float, typer.Option(min=0)] = 0.01,
    dtype: Annotated[Literal["float32", "float64"], typer.Option()] = "float32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    patience: Annotated[float, typer.Option(min=1, help="maximum number of seconds per way of training")] = 600,
) -> int:
    """Train on one device, on several, and in two processes, and compare the losses."""
    if devices % 2 or batch % devices:
        raise Refused(f"--devices {devices} --batch {batch}: devices must be even, and batch a multiple of devices")
    ways = {  # name: number of processes, devices per process, whether the weights are perturbed
        ONE_DEVICE: (1, 1, False),
        ROUNDED: (1, 1, True),
        f"{devices} devices": (1, devices, False),
        f"2 processes of {devices // 2}": (2, devices // 2, False),
    }
    settings = {"hidden": hidden, "batch": batch, "length": length, "learning_rate": learning_rate}
    settings |= {"dtype": dtype, "seed": seed}
    run = Run(out, {"example": "many_devices", "devices": devices} | settings)
    losses = {}
    for name, (processes, per_process, rounded) in ways.items():
        folder = run.folder / name.replace(" ", "_").replace(",", "")
        way = settings | {"way": name, "rounded": rounded}
        launch([str(folder), json.dumps(way), str(steps), str(every), str(per_process)], processes, patience)
        rows = Run(folder, way).metrics()
        losses[name] = [row["loss"] for row in rows]
    difference, limit = judge(losses, np.finfo(dtype).eps)
    run.finish({"largest difference": difference, "limit": limit, "losses": losses})
    step_numbers = [row["step"] for row in rows]
    run.plot(
        "curve.png", {name: (step_numbers, values) for name, values in losses.items()}, y="loss, nats per character"
    )
    show(step_numbers, losses, difference, limit)
    return 0 if max(difference.values()) <= limit else 1


def judge(losses: dict[str, list[float]], eps: float) -> tuple[dict[str, float], float]:
    """Return each run's largest relative difference from one device, and the limit: eight times that of ROUNDED."""
    difference = {name: largest_difference(values, losses[ONE_DEVICE]) for name, values in losses.items()}
    return difference, 8 * max(difference[ROUNDED], float(eps))


def launch(arguments: list[str], processes: int, patience: float) -> None:
    """Run the worker in several processes. All end if one of them fails, if the time is up, or if this process dies."""
    command = [sys.executable, "-m", "examples.many_devices.worker", *arguments, f"localhost:{free_port()}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}  # stdin: see end_with_parent in worker.py
    workers: list[subprocess.Popen] = []
    deadline = time.monotonic() + patience
    try:
        for number in range(processes):
            workers.append(subprocess.Popen([*command, str(processes), str(number)], env=environment, **pipes))
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            if time.monotonic() > deadline:
                raise Refused(f"--patience {patience:g}: {arguments[0]} is not done; give more time or fewer --steps")
            time.sleep(0.05)
        if any(codes):
            raise SystemExit(2 if 2 in codes else f"a process ended with code {next(filter(None, codes))}")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()  # wait, and close the pipe


def free_port() -> int:
    """Return a port of this machine that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def show(steps: list[int], losses: dict[str, list[float]], difference: dict[str, float], limit: float) -> None:
    """Print the losses side by side."""
    shown = sorted({(len(steps) - 1) // 2, len(steps) - 1})
    table = Table("", *(f"loss at step {steps[n]}" for n in shown), "difference")
    for name, values in losses.items():
        table.add_row(name, *(f"{values[n]:.15f}" for n in shown), f"{difference[name]:.1e}")
    judged = "within" if max(difference.values()) <= limit else "BEYOND"
    table.caption = f"{judged} the limit {limit:.1e}, eight times what one rounding per step changes"
    Console().print(table)


if __name__ == "__main__":
    start(main)
