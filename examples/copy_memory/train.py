"""Copy memory: an RNN and an LSTM repeat ten symbols after a growing lag.

A sequence has ten symbols from an alphabet of eight, then ``lag`` blanks, and then ten more blanks. The last of the
``lag`` blanks is a go sign instead. The network outputs blanks up to the go sign, and then the ten symbols. The
baseline has no memory: it outputs blanks and then guesses. Its mean cross entropy is 10 log(8) / (lag + 20).

The task belongs to the family of Hochreiter & Schmidhuber, 1997, in the form of Arjovsky, Shah & Bengio, 2016, "Unitary
evolution recurrent neural networks". Chrono initialisation is from Tallec & Ollivier, 2018, "Can recurrent neural
networks warp time?". The RNN is Flax's, so the example shows jax_lstm.nnx.LSTM among Flax's modules.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import flax.nnx
import jax
import jax.numpy as jnp
import optax
from rich.console import Console
from rich.table import Table
from typer import Option

import jax_lstm.nnx
from examples.run import Metrics, Refused, Run, State, by_model, start

SYMBOLS, SPAN = 8, 10
BLANK, GO = 0, SYMBOLS + 1
MODELS = ("rnn", "lstm", "lstm-chrono")
Count = Annotated[int, Option(min=1)]
Rate = Annotated[float, Option(min=1e-9)]
Row = dict[str, Any]  # a row of the table of results


class Recaller(flax.nnx.Module):
    """A network from tokens int `[B, T]` to logits `[B, T, SYMBOLS + 1]`."""

    def __init__(self, name: str, hidden: int, length: int, rngs: flax.nnx.Rngs) -> None:
        if name == "rnn":
            self.layer = flax.nnx.RNN(flax.nnx.SimpleCell(GO + 1, hidden, rngs=rngs))
        else:
            bias = f"chrono:{length}" if name == "lstm-chrono" else None
            self.layer = jax_lstm.nnx.LSTM(GO + 1, hidden, style="flax", forget_bias=bias, rngs=rngs)
        self.head = flax.nnx.Linear(hidden, SYMBOLS + 1, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.nn.one_hot(tokens, GO + 1, dtype=jnp.float32)
        if isinstance(self.layer, jax_lstm.nnx.LSTM):
            y, _ = self.layer(x)
        else:
            y = self.layer(x, initial_carry=jnp.zeros((len(x), self.layer.cell.hidden_features), x.dtype))
        return self.head(y)


def main(
    lag: Annotated[list[int] | None, Option(min=1, help="May be given several times. Default: 5, 20, 50.")] = None,
    model: Annotated[list[str] | None, Option(help=f"Some of {', '.join(MODELS)}. Default: all.")] = None,
    out: Path = Path("runs/copy_memory"),
    hidden: Count = 128,
    batch: Count = 32,
    steps: Annotated[int, Option(min=1, help="Maximum number of training steps.")] = 3000,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 250,
    rnn_learning_rate: Rate = 1e-3,
    lstm_learning_rate: Rate = 1e-2,
    enough: Annotated[float, Option(min=0.0, max=1.0, help="Train until this share is recalled.")] = 0.99,
    seed: int = 0,
) -> None:
    """Train each model at each lag, until it recalls enough or has used up its steps."""
    lags, names = sorted(set(lag or (5, 20, 50))), list(dict.fromkeys(model or MODELS))
    if unknown := [name for name in names if name not in MODELS]:
        raise Refused(f"--model {unknown[0]}: no such model; give {', '.join(MODELS)}")
    settings = {"example": "copy_memory", "hidden": hidden, "batch": batch, "every": every, "enough": enough}
    settings |= {"rnn_learning_rate": rnn_learning_rate, "lstm_learning_rate": lstm_learning_rate, "seed": seed}
    study = Run(out, settings)

    rows: list[Row] = []
    for lag in lags:
        held_out = draw(jax.random.key(seed + 1), 1000, lag)
        guess = {"cross_entropy": SPAN * math.log(SYMBOLS) / (lag + 2 * SPAN), "recalled": 1 / SYMBOLS}
        rows.append({"lag": lag, "model": "baseline", **guess, "steps": 0})
        for name in names:
            learning_rate = rnn_learning_rate if name == "rnn" else lstm_learning_rate
            run = Run(out / f"{name}-{lag}", settings | {"model": name, "lag": lag})
            measure = train(run, name, lag, hidden, batch, learning_rate, steps, every, enough, seed)
            rows.append({"lag": lag, "model": name, **measure(*held_out), "steps": run.metrics()[-1]["step"]})
    report(study, rows)


@functools.partial(jax.jit, static_argnums=(1, 2))
def draw(key: jax.Array, number: int, lag: int) -> tuple[jax.Array, jax.Array]:
    """Draw ``number`` sequences and their targets, both int32 `[number, lag + 20]`."""
    symbols = jax.random.randint(key, (number, SPAN), 1, SYMBOLS + 1, jnp.int32)
    blanks = jnp.full((number, lag + SPAN), BLANK, jnp.int32)
    return jnp.hstack([symbols, blanks]).at[:, SPAN + lag - 1].set(GO), jnp.hstack([blanks, symbols])


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
) -> Callable[[jax.Array, jax.Array], Metrics]:
    """Train on new sequences in every step. Return a function that measures the trained model on given sequences."""
    order, validation = jax.random.split(jax.random.key(seed))
    model = Recaller(name, hidden, lag + 2 * SPAN, flax.nnx.Rngs(seed))
    graph, params, rest = flax.nnx.split(model, flax.nnx.Param, ...)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))

    def loss(params: flax.nnx.State, tokens: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = flax.nnx.merge(graph, params, rest)(tokens)
        recalled = (logits.argmax(-1) == target)[:, -SPAN:].mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean(), recalled

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, n: int) -> tuple[State, Metrics]:
        params, moments = state
        tokens, target = draw(jax.random.fold_in(order, n), batch, lag)
        (nats, _), grads = jax.value_and_grad(loss, has_aux=True)(params, tokens, target)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), {"train": nats}

    jitted_loss = jax.jit(loss)

    def measure(params: flax.nnx.State, tokens: jax.Array, target: jax.Array) -> Metrics:
        nats, recalled = jitted_loss(params, tokens, target)
        return {"cross_entropy": float(nats), "recalled": float(recalled)}

    check = draw(validation, 500, lag)
    params, _ = run.train(
        (params, optimizer.init(params)),
        update,
        steps,
        every,
        evaluate=lambda state: measure(state[0], *check),
        until=lambda row: row["recalled"] >= enough,
    )
    return functools.partial(measure, params)


def report(study: Run, rows: list[Row]) -> None:
    """Write results.json and curve.png, and print the table."""
    study.finish({"results": rows})
    study.plot("curve.png", by_model(rows, "recalled"), x="lag", y="share of symbols recalled, held out")

    table = Table("lag", "model", "cross entropy", "recalled", "steps", title="copy memory, held out")
    for row in rows:
        numbers = (f"{row['cross_entropy']:.4f}", f"{row['recalled']:.3f}", str(row["steps"]))
        table.add_row(str(row["lag"]), row["model"], *numbers)
    Console().print(table)


if __name__ == "__main__":
    start(main)
