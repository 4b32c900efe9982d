"""A character-level language model: Embedding -> LSTM -> Dense, measured in bits per character on text never seen.

The training text is cut into parallel streams. Step n reads the next window of each and starts from the state in which
step n - 1 left the LSTM (truncated back-propagation), zeros at the streams' start; so that state is in the checkpoint
too. The task is Mikolov et al., 2012, "Subword language modeling with neural networks"; the LSTM's training in this
manner is Graves, 2013, "Generating sequences with recurrent neural networks".
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from typer import Option

from examples.char_lm.text import UNKNOWN, Text, bigram_bits, cut, read_text, unigram_bits
from examples.run import Run, start
from jax_lstm import LSTMState, linen

Count = Annotated[int, Option(min=1)]


def main(
    text: Annotated[Path | None, Option(help="UTF-8 text; the documentation in pydoc_data.topics without it.")] = None,
    out: Path = Path("runs/char_lm"),
    hidden: Count = 192,
    embedding: Count = 32,
    batch: Annotated[int, Option(min=1, help="Streams that are read in parallel.")] = 32,
    length: Annotated[int, Option(min=1, help="Characters per window of a stream.")] = 64,
    steps: Count = 1500,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 100,
    learning_rate: Annotated[float, Option(min=1e-9)] = 4e-3,
    sample: Annotated[int, Option(min=1, help="Characters to draw at the end.")] = 400,
    seed: int = 0,
) -> None:
    """Trains on the first nine tenths of a text, measures on the last tenth, and writes on from there."""
    data = read_text(text)
    train, held_out = cut(data.train, batch, length, data.name), cut(data.held_out, batch, length, data.name)
    settings = {"example": "char_lm", "text": data.digest, "hidden": hidden, "embedding": embedding, "batch": batch}
    settings |= {"length": length, "every": every, "learning_rate": learning_rate, "seed": seed}
    run = Run(out, settings)

    model = linen.SequenceModel(data.size, embedding, hidden, data.size)
    params = model.init(jax.random.key(seed), train[0, :, :-1])["params"]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
    update = make_update(model, optimizer)
    state = {"params": params, "optimizer": optimizer.init(params), "lstm": zeros(batch, hidden)}
    state = run.train(
        state,
        lambda state, n: update(state, train[n % len(train)], n % len(train) == 0),
        steps,
        every,
        lambda state: {"held_out": float(bits(model, state["params"], held_out, zeros(batch, hidden)))},
    )

    written = write_on(model, state["params"], held_out[0, 0], jax.random.key(seed), sample)
    report(run, data, train, held_out, data.decode(held_out[0, 0]), data.decode(written))


def zeros(batch: int, hidden: int) -> LSTMState:
    return LSTMState(h=jnp.zeros((1, batch, hidden), jnp.float32), c=jnp.zeros((1, batch, hidden), jnp.float32))


def make_update(model: linen.SequenceModel, optimizer: optax.GradientTransformation) -> Any:
    """One step of training: ``update(state, window [B, T + 1], first) -> state, metrics``."""

    def loss(params, window, lstm):
        logits, lstm = model.apply({"params": params}, window[:, :-1], lstm)
        return optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:]).mean(), lstm

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, window, first):
        lstm = jax.tree.map(lambda a: jnp.where(first, jnp.zeros_like(a), a), state["lstm"])
        (nats, lstm), grads = jax.value_and_grad(loss, has_aux=True)(state["params"], window, lstm)
        updates, moments = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "optimizer": moments, "lstm": lstm}, {"train": nats / jnp.log(2)}

    return update


@functools.partial(jax.jit, static_argnums=0)
def bits(model: linen.SequenceModel, params: Any, windows: Any, lstm: LSTMState) -> jax.Array:
    """Bits per character over windows ``[N, B, T + 1]`` of the same streams, the state carried from one to the next."""

    def read(lstm, window):
        logits, lstm = model.apply({"params": params}, window[:, :-1], lstm)
        return lstm, optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:]).mean()

    return jax.lax.scan(read, lstm, windows)[1].mean() / jnp.log(2)


@functools.partial(jax.jit, static_argnums=(0, 4))
def write_on(model: linen.SequenceModel, params: Any, prompt: Any, key: Any, number: int) -> jax.Array:
    """Reads ``prompt`` [T], T at least 2, then draws characters one by one, each of them read in its turn."""

    def step(carry, key):
        token, lstm = carry
        logits, lstm = model.apply({"params": params}, token[None], lstm)
        token = jax.random.categorical(key, logits[0].at[UNKNOWN].set(-jnp.inf)).astype(prompt.dtype)
        return (token, lstm), token

    _, lstm = model.apply({"params": params}, prompt[:-1])
    return jax.lax.scan(step, (prompt[-1], lstm), jax.random.split(key, number))[1]


def report(run: Run, data: Text, train: Any, held_out: Any, prompt: str, written: str) -> None:
    rows = run.metrics()
    bpc = {name: fit(data.train, data.size, held_out) for name, fit in BASELINES.items()}
    bpc["LSTM"] = rows[-1]["held_out"]
    counted = {"train_characters": train[..., 1:].size, "held_out_characters": held_out[..., 1:].size}
    counted |= {"alphabet": data.size, "held_out_unknown": int(np.sum(held_out[..., 1:] == UNKNOWN))}
    run.finish(counted | {"held_out_bits_per_character": bpc, "prompt": prompt, "sample": written})
    steps = [row["step"] for row in rows]
    lines = {name: (steps, [row[name] for row in rows]) for name in ("train", "held_out")}
    lines |= {name: (steps, [bpc[name]] * len(steps)) for name in BASELINES}
    run.plot("curve.png", lines, y="bits per character")

    table = Table("model", "bits per character", title=f"{data.name}: {held_out[..., 1:].size} characters held out")
    for name, value in bpc.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)
    print(f"The held-out text begins:\n{prompt}\nThe LSTM goes on:\n{written}")


BASELINES = {"unigram, add-one": unigram_bits, "bigram, add-one": bigram_bits}

if __name__ == "__main__":
    start(main)
