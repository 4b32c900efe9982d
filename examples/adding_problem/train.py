"""The adding problem: RNN against LSTM where two numbers must be remembered over a growing lag.

A sequence of 2 * lag steps has two inputs: a random number, and a mark that is 1 at two steps of the first half. After
the last step the network says the sum of the two marked numbers; so both are kept for at least ``lag`` steps. Whoever
says the mean sum, 1, errs by the variance of the sum, 2/12: that is the baseline.

The task is Hochreiter & Schmidhuber, 1997, "Long short-term memory", experiment 4. Departures: (1) numbers from
U(0, 1), not U(-1, 1), and their plain sum; (2) all sequences of a lag have one length; (3) both marks are anywhere in
the first half. Chrono initialisation is Tallec & Ollivier, 2018, "Can recurrent neural networks warp time?".
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table
from typer import Option

from examples.run import Refused, Run, start
from jax_lstm import init_lstm, init_rnn, lstm, rnn

MODELS = {
    "rnn": lambda key, hidden, length: init_rnn(key, 2, hidden),
    "rnn-orthogonal": lambda key, hidden, length: init_rnn(key, 2, hidden, style="flax"),
    "lstm": lambda key, hidden, length: init_lstm(key, 2, hidden),
    "lstm-forget-3": lambda key, hidden, length: init_lstm(key, 2, hidden, forget_bias=3.0),
    "lstm-chrono": lambda key, hidden, length: init_lstm(key, 2, hidden, forget_bias=f"chrono:{length}"),
}
Count = Annotated[int, Option(min=1)]
Rate = Annotated[float, Option(min=1e-9)]


def main(
    lag: Annotated[list[int] | None, Option(min=2, help="Give it several times; 5, 20, 50, 200 without it.")] = None,
    model: Annotated[list[str] | None, Option(help=f"Some of {', '.join(MODELS)}; all without it.")] = None,
    out: Path = Path("runs/adding_problem"),
    hidden: Count = 32,
    batch: Count = 32,
    steps: Annotated[int, Option(min=1, help="Most steps of one training.")] = 4000,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 200,
    rnn_learning_rate: Rate = 3e-4,
    lstm_learning_rate: Rate = 1e-2,
    solved: Annotated[float, Option(min=0.0, help="Train until the validation error is below half of this.")] = 0.01,
    seed: int = 0,
) -> None:
    """Trains each model at each lag, until it has solved the task or has spent its steps."""
    lags, names = sorted(set(lag or (5, 20, 50, 200))), list(dict.fromkeys(model or MODELS))
    if unknown := [name for name in names if name not in MODELS]:
        raise Refused(f"--model {unknown[0]}: no such model; give {', '.join(MODELS)}")
    settings = {"example": "adding_problem", "hidden": hidden, "batch": batch, "every": every, "solved": solved}
    settings |= {"rnn_learning_rate": rnn_learning_rate, "lstm_learning_rate": lstm_learning_rate, "seed": seed}
    study = Run(out, settings)

    found = []
    for lag in lags:
        x, target = draw(jax.random.key(seed + 1), 2000, lag)
        found.append({"lag": lag, "model": "baseline", "held_out_mse": float(jnp.var(target)), "steps": 0})
        for name in names:
            learning_rate = rnn_learning_rate if name.startswith("rnn") else lstm_learning_rate
            run = Run(out / f"{name}-{lag}", settings | {"model": name, "lag": lag})
            params = train(run, name, lag, hidden, batch, learning_rate, steps, every, solved / 2, seed)
            taken = run.metrics()[-1]["step"]
            found.append({"lag": lag, "model": name, "held_out_mse": float(error(params, x, target)), "steps": taken})
    report(study, found, solved)


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw(key: Any, number: int, lag: int) -> tuple[jax.Array, jax.Array]:
    """``number`` sequences: x float32 [number, 2 * lag, 2], and the sums [number]."""
    values, first, apart = jax.random.split(key, 3)
    values = jax.random.uniform(values, (number, 2 * lag), jnp.float32)
    first = jax.random.randint(first, number, 0, lag)
    second = (first + jax.random.randint(apart, number, 1, lag)) % lag
    marks = sum(jax.nn.one_hot(step, 2 * lag, dtype=jnp.float32) for step in (first, second))
    return jnp.stack([values, marks], axis=-1), (values * marks).sum(1)


@jax.jit
def error(params: Any, x: Any, target: Any) -> jax.Array:
    """Mean squared error of what a linear layer reads off the last hidden state."""
    is_rnn = params["layer"]["weight_hh_l0"].shape[0] == params["layer"]["weight_hh_l0"].shape[1]
    h = rnn(params["layer"], x)[1] if is_rnn else lstm(params["layer"], x)[1].h
    return jnp.mean((h[-1] @ params["weight"] + params["bias"] - target) ** 2)


def train(run, name, lag, hidden, batch, learning_rate, steps, every, enough, seed):
    """The parameters after training on ever new sequences, at most ``steps`` batches of them."""
    init, order, validation = jax.random.split(jax.random.key(seed), 3)
    params = {"layer": MODELS[name](init, hidden, 2 * lag), "weight": jnp.zeros(hidden, jnp.float32)}
    params["bias"] = jnp.ones((), jnp.float32)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, n):
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


def report(study: Run, found: list[dict[str, Any]], solved: float) -> None:
    study.finish({"solved_below": solved, "results": found})
    names = list(dict.fromkeys(row["model"] for row in found))
    lines = {n: [(r["lag"], r["held_out_mse"]) for r in found if r["model"] == n] for n in names}
    lines = {name: tuple(zip(*points, strict=True)) for name, points in lines.items()}
    study.plot("curve.png", lines, x="lag", y="held-out mean squared error")

    table = Table("lag", "model", "held-out MSE", "steps", "", title=f"adding problem: solved is below {solved}")
    for row in found:
        verdict = "solved" if row["held_out_mse"] < solved else ""
        table.add_row(str(row["lag"]), row["model"], f"{row['held_out_mse']:.4f}", str(row["steps"]), verdict)
    Console().print(table)


if __name__ == "__main__":
    start(main)
