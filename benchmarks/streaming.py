"""Compares one step at a time with the whole sequence, bit for bit.

    python -m benchmarks.streaming --shapes 20

Networks are drawn (1 to 3 layers, with and without biases and projections, widths up to 300, up to 200 steps) in five
groups. On CPU the bits depend on these, as measured:

    1 to 3 units    a loop that touches few bytes is compiled into one kernel, by another part of XLA
    1 row           products of one row and of many rows are two routines
    width of 1      a product over one number is a multiplication, which may be fused with the sum after it
    widths to 64    several rows
    over 64         several rows, and a product over more numbers: its order depends on the layout of the weights

There are three comparisons per network, each of every output and of the last state:

    in steps        lstm_stream on the whole, with lstm_step on every step, with lstm_stream on two chunks, and with a
                    scan over lstm_step; the first of these also inside another model, which must not change a bit
    lstm in steps   lstm on the whole, with lstm on one step at a time
    stream, lstm    lstm_stream on the whole, with lstm on the whole

lstm runs with backend="scan" here, which takes its products from XLA. Steps and streams run with the backend of
``--backend``. With "auto", two rows or more run the compiled kernels if they can. Exported programs, and programs for
several devices, run the loop of "scan".

The table has the number of networks that are equal bit for bit, and the largest difference in ulps. The ulp is that of
the larger number, and at least that of 1, which is the size of an LSTM's outputs. The exit code is 1 if a comparison
"in steps" is not equal: lstm_stream promises equal bits there. The other two comparisons promise only agreement within
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jax.typing import DTypeLike
from rich.console import Console
from rich.progress import track

import jax_lstm
from crosscheck.report.table import Table
from crosscheck.report.terminal import output, show
from jax_lstm import LSTMState

GROUPS = ("1 to 3 units", "1 row", "width of 1", "widths to 64", "over 64")
COMPARISONS = ("in steps", "lstm in steps", "stream, lstm")
Array: TypeAlias = jax.Array | np.ndarray
Params: TypeAlias = dict[str, jax.Array]
Outputs: TypeAlias = tuple[Array, LSTMState]
Backend: TypeAlias = Literal["auto", "scan"]
Network: TypeAlias = Callable[[Params, Array, LSTMState], Outputs]


class Drawn(NamedTuple):
    """One network with its inputs: x ``[*batch, T, D]``."""

    params: Params
    x: np.ndarray
    state: LSTMState


def draw(group: str, rng: np.random.Generator, dtype: DTypeLike) -> Drawn:
    """Draw a network of one of GROUPS."""
    one, many = ((), (1,), (1, 1)), ((2,), (3,), (5,), (2, 3), (16,), (40,))
    batch = {"1 row": one, "1 to 3 units": one + many}.get(group, many)
    low, high = {"1 to 3 units": (1, 3), "over 64": (65, 300), "widths to 64": (2, 64)}.get(group, (2, 300))
    size = lambda low: round(np.exp(rng.uniform(np.log(low), np.log(high))))
    inputs, hidden = size(min(low, 2)), size(low)
    projected = max(low, int(rng.integers(1, hidden))) if hidden > low and rng.random() < 0.4 else 0
    if group == "width of 1":
        inputs, hidden, projected = ((1, hidden, projected), (inputs, 1, 0), (inputs, hidden, 1))[rng.integers(3)]
    network: dict[str, Any] = {"num_layers": int(rng.integers(1, 4)), "bias": bool(rng.random() < 0.7)}
    network["proj_size"] = projected if projected < hidden else 0
    key = jax.random.key(int(rng.integers(2**31)))
    params = jax_lstm.init_lstm(key, inputs, hidden, **network, dtype=dtype)
    rows, steps = batch[rng.integers(len(batch))], int(rng.choice([1, 2, 3, 10, 40, 200]))
    normal = lambda *shape: np.asarray(rng.normal(size=shape), dtype)
    width = network["proj_size"] or hidden
    state = LSTMState(normal(network["num_layers"], *rows, width), normal(network["num_layers"], *rows, hidden))
    return Drawn(params, normal(*rows, steps, inputs), state)


def compare(drawn: Drawn, rng: np.random.Generator, backend: Backend = "auto") -> dict[str, float]:
    """Return the difference in ulps of each of COMPARISONS. It is 0.0 if the bits are equal."""
    functions = [partial(each, backend=backend) for each in (jax_lstm.lstm_stream, jax_lstm.lstm_step)]
    stream, step = map(jax.jit, functions)
    lstm = jax.jit(partial(jax_lstm.lstm, backend="scan"))
    amid = [jax.jit(partial(amid_a_model, each)) for each in functions]
    streamed, run, steps = stream(*drawn), lstm(*drawn), drawn.x.shape[-2]
    differences = (
        apart(streamed, in_steps(step, *drawn)),
        apart(streamed, in_chunks(stream, [int(rng.integers(steps))], *drawn)),
        apart(streamed, jax.jit(partial(in_scan, functions[1]))(*drawn)),
        apart(amid[0](*drawn), in_steps(amid[1], *drawn)),
    )
    return {
        "in steps": max(differences),
        "lstm in steps": apart(run, in_chunks(lstm, range(1, steps), *drawn)),
        "stream, lstm": apart(streamed, run),
    }


def amid_a_model(function: Network, params: Params, x: Array, state: LSTMState) -> Outputs:
    """Run a function between operations that a compiler could merge with the first and last product of a step."""
    y, state = function(params, 2 * jnp.sin(x) + x, state)
    return jnp.tanh(y) + 1, LSTMState(h=state.h, c=state.c)


def in_steps(function: Network, params: Params, x: Array, state: LSTMState) -> Outputs:
    """Run a function on one step after the other."""
    ys = []
    for t in range(x.shape[-2]):
        y, state = function(params, x[..., t, :], state)
        ys.append(y)
    return np.stack(ys, -2), state


def in_scan(step: Network, params: Params, x: Array, state: LSTMState) -> Outputs:
    """Scan over lstm_step, as a user's own loop does."""
    state, y = jax.lax.scan(lambda state, x: step(params, x, state)[::-1], state, jnp.moveaxis(x, -2, 0))
    return jnp.moveaxis(y, 0, -2), state


def in_chunks(function: Network, cuts: Iterable[int], params: Params, x: Array, state: LSTMState) -> Outputs:
    """Run a function on one chunk after the other. A chunk begins at each of these steps, and at step 0."""
    ys = []
    for chunk in np.split(x, list(cuts), axis=-2):
        if chunk.shape[-2]:
            y, state = function(params, chunk, state)
            ys.append(y)
    return np.concatenate(ys, -2), state


def apart(got: Any, expected: Any) -> float:
    """Return the largest difference of two trees in ulps, each at least that of 1. It is 0.0 only for equal bits."""
    largest = 0.0
    for a, b in zip(map(np.asarray, jax.tree.leaves(got)), map(np.asarray, jax.tree.leaves(expected)), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if a.tobytes() != b.tobytes():
            size = np.maximum(1, np.maximum(np.abs(a), np.abs(b))).astype(a.dtype)
            largest = max(largest, float(np.max(np.abs(a - b) / np.spacing(size))), np.finfo(float).tiny)
    return largest


def main(
    shapes: Annotated[int, typer.Option(min=1, help="Networks in each of the five groups.")] = 20,
    dtype: Literal["float64", "float32"] = "float64",
    seed: int = 0,
    backend: Annotated[Backend, typer.Option(help="Of steps and streams.")] = "auto",
) -> None:
    """Compare one step at a time with the whole sequence, bit for bit."""
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(seed)
    differences: dict[tuple[str, str], list[float]] = {(group, name): [] for group in GROUPS for name in COMPARISONS}
    console = Console(stderr=True)
    for group in track([group for group in GROUPS for _ in range(shapes)], console=console, transient=True):
        for name, ulps in compare(draw(group, rng, dtype), rng, backend).items():
            differences[group, name].append(ulps)
        jax.clear_caches()
    rows = tuple((group, *(shown(differences[group, name]) for name in COMPARISONS)) for group in GROUPS)
    title = f"equal bit for bit, {dtype}, backend {backend}, jax {jax.__version__}"
    show(output(), Table(title, ("group", *COMPARISONS), rows))
    raise typer.Exit(int(any(max(differences[group, "in steps"]) > 0 for group in GROUPS)))


def shown(ulps: list[float]) -> str:
    """Return how many differences are 0, and the largest one."""
    equal = f"{sum(each == 0 for each in ulps)} of {len(ulps)}"
    return equal if not max(ulps) else f"{equal}, {max(ulps):.1f} ulp"


if __name__ == "__main__":
    typer.run(main)
