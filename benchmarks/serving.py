"""Times one step of an LSTM, and a step of a sequence, on the compiled kernels of a CPU and on the loop.

    python -m benchmarks.serving

`jax_lstm.lstm_step` and `lstm_stream` run the kernels for two rows or more, and else the loop. This table says why. The
loop is what an exported program runs, and the kernels are what `lstm` runs with backend="native": their bits are those
of a stream. Times of the sequence are per step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import typer
from jax import export

import jax_lstm
from benchmarks.table import duration
from benchmarks.timing import medians
from crosscheck.report.table import Table
from crosscheck.report.terminal import output, show
from jax_lstm import LSTMState

SHAPES = ((1, 64, 64), (1, 256, 256), (1, 256, 1024), (2, 64, 64), (2, 256, 1024), (16, 256, 256), (64, 256, 1024))
STEPS = 200
COLUMNS = ("step, kernels", "step, loop", "of a sequence, kernels", "of a sequence, loop")


def measure(batch: int, inputs: int, hidden: int, seconds: float) -> list[float]:
    """Return the seconds of each of COLUMNS."""
    params = jax_lstm.init_lstm(jax.random.key(0), inputs, hidden)
    state = LSTMState(*(jnp.zeros((1, batch, hidden)) for _ in range(2)))
    x = jax.random.normal(jax.random.key(1), (STEPS, batch, inputs))
    calls: dict[str, Callable[[], Any]] = {}
    for some in (x[:1], x):
        calls[f"kernels, {len(some)}"] = _call(jax.jit(on_kernels), params, some, state)
        loop = exported_loop(params, some, state)
        calls[f"loop, {len(some)}"] = _call(jax.jit(loop.call), params, some, state)
    found = medians(calls, most_runs=200, budget=seconds)
    return [found[name] / (STEPS if name.endswith(str(STEPS)) else 1) for name in calls]


def on_kernels(params: dict[str, jax.Array], x: jax.Array, state: LSTMState) -> Any:
    """Run the steps of x on the kernels."""
    return jax_lstm.lstm(params, x, state, time_major=True, backend="native")


def exported_loop(params: dict[str, jax.Array], x: jax.Array, state: LSTMState) -> export.Exported:
    """Return the program that runs the steps of x on the loop."""
    return export.export(jax.jit(partial(jax_lstm.lstm_stream, time_major=True)))(params, x, state)


def _call(function: Any, *args: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(function(*args))


def main(seconds: Annotated[float, typer.Option(min=0.0, help="For each network.")] = 4.0) -> None:
    """Time one step, and a step of a sequence, on the kernels of a CPU and on the loop."""
    rows = []
    for batch, inputs, hidden in SHAPES:
        times = measure(batch, inputs, hidden, seconds)
        rows.append((f"{batch},{inputs},{hidden}", *map(duration, times)))
    show(output(), Table("", ("B,D,H", *COLUMNS), tuple(rows), numeric=COLUMNS))


if __name__ == "__main__":
    typer.run(main)
