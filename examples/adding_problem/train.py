"""The adding problem: an RNN and an LSTM remember two numbers over a growing lag.

A sequence of 2 * lag steps has two inputs: a random number, and a mark that is 1 at two steps of the first half. After
the last step the network outputs the sum of the two marked numbers, so it must keep both for at least ``lag`` steps.
The baseline always outputs the mean sum, 1. Its mean squared error is the variance of the sum, 2/12.

The task is experiment 4 of Hochreiter & Schmidhuber, 1997, "Long short-term memory", with three differences. The
numbers come from U(0, 1), not U(-1, 1), and the target is their plain sum. All sequences of a lag have the same length.
Both marks may be anywhere in the first half. Chrono initialisation is from Tallec & Ollivier, 2018, "Can recurrent
neural networks warp time?".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table
from typer import Option

from examples.run import Metrics, Refused, Run, by_model, start
from jax_lstm import init_lstm, init_rnn, lstm, rnn

Params = dict[str, Any]  # "layer": the recurrent layer's parameters; "weight" [H] and "bias" []: the linear layer's
Row = dict[str, Any]  # a row of the table of results
MODELS: Mapping[str, Callable[[jax.Array, int, int], dict[str, jax.Array]]] = {
    "rnn": lambda key, hidden, length: init_rnn(key, 2, hidden),
    "rnn-orthogonal": lambda key, hidden, length: init_rnn(key, 2, hidden, style="flax"),
    "lstm": lambda key, hidden, length: init_lstm(key, 2, hidden),
    "lstm-forget-3": lambda key, hidden, length: init_lstm(key, 2, hidden, forget_bias=3.0),
    "lstm-chrono": lambda key, hidden, length: init_lstm(key, 2, hidden, forget_bias=f"chrono:{length}"),
}
Count = Annotated[int, Option(min=1)]
Rate = Annotated[float, Option(min=1e-9)]


def main(
    lag: Annotated[list[int] | None, Option(min=2, help="May be given several times. Default: 5, 20, 50, 200.")] = None,
    model: Annotated[list[str] | None, Option(help=f"Some of {', '.join(MODELS)}. Default: all.")] = None,
    out: Path = Path("runs/adding_problem"),
    hidden: Count = 32,
    batch: Count = 32,
    steps: Annotated[int, Option(min=1, help="Maximum number of training steps.")] = 4000,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 200,
    rnn_learning_rate: Rate = 3e-4,
    lstm_learning_rate: Rate = 1e-2,
    solved: Annotated[float, Option(min=0.0, help="Train until the validation error is below half of this.")] = 0.01,
    seed: int = 0,
) -> None:
    """Train each model at each lag, until it has solved the task or used up its steps."""
    lags, names = sorted(set(lag or (5, 20, 50, 200))), list(dict.fromkeys(model or MODELS))
    if unknown := [name for name in names if name not in MODELS]:
        raise Refused(f"--model {unknown[0]}: no such model; give {', '.join(MODELS)}")
    settings = {"example": "adding_problem", "hidden": hidden, "batch": batch, "every": every, "solved": solved}
    settings |= {"rnn_learning_rate": rnn_learning_rate, "lstm_learning_rate": lstm_learning_rate, "seed": seed}
    study = Run(out, settings)

    rows: list[Row] = []
    for lag in lags:
        x, target = draw(jax.random.key(seed + 1), 2000, lag)
        rows.append({"lag": lag, "model": "baseline", "held_out_mse": float(jnp.var(target)), "steps": 0})
        for name in names:
            learning_rate = rnn_learning_rate if name.startswith("rnn") else lstm_learning_rate
            run = Run(out / f"{name}-{lag}", settings | {"model": name, "lag": lag})
            params = train(run, name, lag, hidden, batch, learning_rate, steps, every, solved / 2, seed)
            count = run.metrics()[-1]["step"]
            rows.append({"lag": lag, "model": name, "held_out_mse": float(error(params, x, target)), "steps": count})
    report(study, rows, solved)


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw(key: jax.Array, number: int, lag: int) -> tuple[jax.Array, jax.Array]:
    """Draw ``number`` sequences: x float32 `[number, 2 * lag, 2]`, and the sums `[number]`."""
    values, first, distance = jax.random.split(key, 3)
    values = jax.random.uniform(values, (number, 2 * lag), jnp.float32)
    first = jax.random.randint(first, number, 0, lag)
    second = (first + jax.random.randint(distance, number, 1, lag)) % lag
    marks = sum(jax.nn.one_hot(step, 2 * lag, dtype=jnp.float32) for step in (first, second))
    return jnp.stack([values, marks], axis=-1), (values * marks).sum(1)


@jax.jit
def error(params: Params, x: jax.Array, target: jax.Array) -> jax.Array:
    """Return the mean squared error of a linear layer on the last hidden state."""
    is_rnn = params["layer"]["weight_hh_l0"].shape[0] == params["layer"]["weight_hh_l0"].shape[1]
    h = rnn(params["layer"], x)[1] if is_rnn else lstm(params["layer"], x)[1].h
    return jnp.mean((h[-1] @ params["weight"] + params["bias"] - target) ** 2)


def train(
    run: Run,
    name: str,
    lag: int,
    hidden: int,
    batch: int,
    learning_rate: float,
    steps: int,
    every: int,
    enough: float,
    seed: int,
) -> Params:
    """Train on new sequences in every step, and return the parameters. Stop at a validation error below ``enough``."""
    init, order, validation = jax.random.split(jax.random.key(seed), 3)
    params: Params = {"layer": MODELS[name](init, hidden, 2 * lag), "weight": jnp.zeros(hidden, jnp.float32)}
    params["bias"] = jnp.ones((), jnp.float32)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: tuple[Params, optax.OptState], n: int) -> tuple[tuple[Params, optax.OptState], Metrics]:
        params, moments = state
        x, target = draw(jax.random.fold_in(order, n), batch, lag)
        mse, grads = jax.value_and_grad(error)(params, x, target)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), {"train": mse}

    check = draw(validation, 1000, lag)
    params, _ = run.train(
        (params, optimizer.init(params)),
        update,
        steps,
        every,
        evaluate=lambda state: {"validation": float(error(state[0], *check))},
        until=lambda row: row["validation"] < enough,
    )
    return params


def report(study: Run, rows: list[Row], solved: float) -> None:
    """Write results.json and curve.png, and print the table."""
    study.finish({"solved_below": solved, "results": rows})
    study.plot("curve.png", by_model(rows, "held_out_mse"), x="lag", y="held-out mean squared error")

    table = Table("lag", "model", "held-out MSE", "steps", "", title=f"adding problem: solved if below {solved}")
    for row in rows:
        verdict = "solved" if row["held_out_mse"] < solved else ""
        table.add_row(str(row["lag"]), row["model"], f"{row['held_out_mse']:.4f}", str(row["steps"]), verdict)
    Console().print(table)


if __name__ == "__main__":
    start(main)
