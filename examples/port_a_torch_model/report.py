"""The difference of the runs in JAX from the run in torch: the limit, the plot and the table."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from examples.rounding import largest_difference
from examples.run import Run

CARRIED, ROUNDED, FRESH = "optax", "optax, rounded", "optax, fresh moments"


def judge(rows: list[dict[str, float]], eps: float) -> tuple[dict[str, float], float]:
    """Return the largest relative difference of each loss from torch's, and the limit for CARRIED.

    The limit is 64 times the change by one rounding of the weights per step. Two libraries differ by more than the
    order of their sums: each has its own tanh and exp, whose errors are several roundings.
    """
    losses = {name: [row[name] for row in rows] for name in ("torch", CARRIED, ROUNDED, FRESH)}
    difference = {name: largest_difference(losses[name], losses["torch"]) for name in (CARRIED, ROUNDED, FRESH)}
    return difference, 64 * max(largest_difference(losses[ROUNDED], losses[CARRIED]), float(eps))


def draw(run: Run, before: list[float], rows: list[dict[str, float]], first: int, every: int) -> None:
    """Plot the losses before and after the port."""
    means = [float(np.mean(before[n : n + every])) for n in range(0, first, every)]
    before_steps = [min(n + every, first) for n in range(0, first, every)]
    after_steps = [first + row["step"] for row in rows]
    lines = {name: (after_steps, [row[name] for row in rows]) for name in ("torch", CARRIED, FRESH)}
    run.plot("curve.png", {"torch, before the port": (before_steps, means)} | lines, y="loss, nats per byte")


def show(bits: dict[str, dict[str, float]], difference: dict[str, float], limit: float) -> None:
    """Print the table."""
    table = Table("held-out bits per byte", *bits, "loss against torch's")
    for name in bits["at the end"]:
        shown = (f"{column[name]:.6f}" if name in column else "" for column in bits.values())
        table.add_row(name, *shown, f"{difference[name]:.1e}" if name in difference else "")
    judged = "within" if difference[CARRIED] <= limit else "BEYOND"
    table.caption = f"optax is {judged} the limit {limit:.1e}, 64 times what one rounding per step changes"
    Console().print(table)
