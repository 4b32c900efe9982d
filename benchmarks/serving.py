"""Times one step of an LSTM, and a step of a sequence, on the compiled kernels of a CPU and on the loop.

    python -m benchmarks.serving

`jax_lstm.lstm_step` and `lstm_stream` run the kernels with two rows or more, and the loop with one row. This table
shows why: it has the times of backend="native" and backend="scan". The times of the sequence are per step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import typer

import jax_lstm
from benchmarks.table import duration
from benchmarks.timing import medians
from crosscheck.report.table import Table
from crosscheck.report.terminal import output, show
from jax_lstm import LSTMState

SHAPES = ((1, 64, 64), (1, 256, 256), (1, 256, 1024), (2, 64, 64), (2, 256, 1024), (16, 256, 256), (64, 256, 1024))
STEPS = 200
BACKENDS: tuple[Literal["native", "scan"], ...] = ("native", "scan")
COLUMNS = ("step, kernels", "step, loop", "of a sequence, kernels", "of a sequence, loop")


def measure(batch: int, inputs: int, hidden: int, seconds: float) -> list[float]:
    """Return the seconds of each of COLUMNS."""
    params = jax_lstm.init_lstm(jax.random.key(0), inputs, hidden)
    state = LSTMState(*(jnp.zeros((1, batch, hidden)) for _ in range(2)))
    x = jax.random.normal(jax.random.key(1), (STEPS, batch, inputs))
    calls: dict[str, Callable[[], Any]] = {}
    for column, (some, backend) in zip(COLUMNS, product((x[:1], x), BACKENDS), strict=True):
        run = jax.jit(partial(jax_lstm.lstm_stream, time_major=True, backend=backend))
        calls[column] = partial(_wait_for, run, params, some, state)
    found = medians(calls, most_runs=200, budget=seconds)
    return [found[column] / (STEPS if "sequence" in column else 1) for column in COLUMNS]


def _wait_for(function: Callable[..., Any], *args: Any) -> Any:
    return jax.block_until_ready(function(*args))


def main(seconds: Annotated[float, typer.Option(min=0.0, help="For each network.")] = 4.0) -> None:
    """Time one step, and a step of a sequence, on the kernels of a CPU and on the loop."""
    rows = []
    for batch, inputs, hidden in SHAPES:
        try:
            times = measure(batch, inputs, hidden, seconds)
        except ValueError as error:
            sys.exit(f"benchmarks.serving: {error}")
        rows.append((f"{batch},{inputs},{hidden}", *map(duration, times)))
    show(output(), Table("", ("B,D,H", *COLUMNS), tuple(rows), numeric=COLUMNS))


if __name__ == "__main__":
    typer.run(main)
