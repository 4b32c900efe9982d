"""What the runs show: how far they are from torch's, by what limit, drawn and as a table."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from examples.rounding import apart
from examples.run import Run

CARRIED, ROUNDED, ANEW = "optax", "optax, rounded", "optax, moments anew"


def judge(rows: list[dict[str, float]], eps: float) -> tuple[dict[str, float], float]:
    """The largest relative difference of each loss from torch's; the limit for the one that carries all over.

    That is 64 times what one rounding of the weights at each step does: two libraries do not only add up in another
    order, as one library on several devices does, but have tanh and exp of their own, wrong by several roundings.
    """
    losses = {name: [row[name] for row in rows] for name in ("torch", CARRIED, ROUNDED, ANEW)}
    difference = {name: apart(losses[name], losses["torch"]) for name in (CARRIED, ROUNDED, ANEW)}
    return difference, 64 * max(apart(losses[ROUNDED], losses[CARRIED]), float(eps))


def draw(run: Run, before: list[float], rows: list[dict[str, float]], first: int, every: int) -> None:
    means = [float(np.mean(before[n : n + every])) for n in range(0, first, every)]
    along = [min(n + every, first) for n in range(0, first, every)]
    later = [first + row["step"] for row in rows]
    lines = {name: (later, [row[name] for row in rows]) for name in ("torch", CARRIED, ANEW)}
    run.plot("curve.png", {"torch, before the port": (along, means)} | lines, y="loss, nats a byte")


def show(bits: dict[str, dict[str, float]], difference: dict[str, float], limit: float) -> None:
    table = Table("held-out bits per byte", *bits, "loss against torch's")
    for name in bits["at the end"]:
        shown = (f"{found[name]:.6f}" if name in found else "" for found in bits.values())
        table.add_row(name, *shown, f"{difference[name]:.1e}" if name in difference else "")
    judged = "within" if difference[CARRIED] <= limit else "BEYOND"
    table.caption = f"optax is {judged} {limit:.1e}, 64 times what one rounding a step does"
    Console().print(table)
