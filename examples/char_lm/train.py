"""A character-level language model: Embedding -> LSTM -> Dense, measured in bits per character on held-out text.

The training text is cut into parallel streams. Step n reads the next window of each stream and starts from the LSTM's
state after step n - 1 (truncated back-propagation), or from zeros at the start of the streams. Therefore the checkpoint
also holds that state. The task is from Mikolov et al., 2012, "Subword language modeling with neural networks". LSTMs
are trained in this way in Graves, 2013, "Generating sequences with recurrent neural networks".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from typer import Option

from examples.char_lm.text import UNKNOWN, Text, bigram_bits, read_text, unigram_bits, windows_of
from examples.run import Metrics, Run, State, start
from jax_lstm import LSTMState, linen

Count = Annotated[int, Option(min=1)]
Params = Any  # a pytree of arrays


def main(
    text: Annotated[Path | None, Option(help="UTF-8 text. Default: the documentation in pydoc_data.topics.")] = None,
    out: Path = Path("runs/char_lm"),
    hidden: Count = 192,
    embedding: Count = 32,
    batch: Annotated[int, Option(min=1, help="Number of parallel streams.")] = 32,
    length: Annotated[int, Option(min=1, help="Characters per window of a stream.")] = 64,
    steps: Count = 1500,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 100,
    learning_rate: Annotated[float, Option(min=1e-9)] = 4e-3,
    sample: Annotated[int, Option(min=1, help="Characters to draw at the end.")] = 400,
    seed: int = 0,
) -> None:
    """Train on the first nine tenths of a text, measure on the last tenth, and continue it."""
    data = read_text(text)
    train, held_out = (windows_of(part, batch, length, data.name) for part in (data.train, data.held_out))
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

    sample_tokens = continue_text(model, state["params"], held_out[0, 0], jax.random.key(seed), sample)
    report(run, data, train, held_out, data.decode(held_out[0, 0]), data.decode(sample_tokens))


def zeros(batch: int, hidden: int) -> LSTMState:
    """Return the zero state of the LSTM."""
    return LSTMState(h=jnp.zeros((1, batch, hidden), jnp.float32), c=jnp.zeros((1, batch, hidden), jnp.float32))


def make_update(
    model: linen.SequenceModel, optimizer: optax.GradientTransformation
) -> Callable[[State, Any, Any], tuple[State, Metrics]]:
    """Return one training step: ``update(state, window, first) -> state, metrics``, with windows `[B, T + 1]`."""

    def loss(params: Params, window: jax.Array, lstm: LSTMState) -> tuple[jax.Array, LSTMState]:
        logits, lstm = model.apply({"params": params}, window[:, :-1], lstm)
        return optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:]).mean(), lstm

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, window: jax.Array, first: jax.Array) -> tuple[State, Metrics]:
        lstm = jax.tree.map(lambda a: jnp.where(first, jnp.zeros_like(a), a), state["lstm"])
        (nats, lstm), grads = jax.value_and_grad(loss, has_aux=True)(state["params"], window, lstm)
        updates, moments = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "optimizer": moments, "lstm": lstm}, {"train": nats / jnp.log(2)}

    return update


@functools.partial(jax.jit, static_argnums=0)
def bits(model: linen.SequenceModel, params: Params, windows: jax.Array, lstm: LSTMState) -> jax.Array:
    """Return bits per character over windows `[N, B, T + 1]` of the same streams. The state passes between windows."""

    def read(lstm: LSTMState, window: jax.Array) -> tuple[LSTMState, jax.Array]:
        logits, lstm = model.apply({"params": params}, window[:, :-1], lstm)
        return lstm, optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:]).mean()

    return jax.lax.scan(read, lstm, windows)[1].mean() / jnp.log(2)


@functools.partial(jax.jit, static_argnums=(0, 4))
def continue_text(
    model: linen.SequenceModel, params: Params, prompt: jax.Array, key: jax.Array, number: int
) -> jax.Array:
    """Read ``prompt``, tokens `[T]` with T of at least 2. Then draw tokens, each from the logits after the last one."""

    def step(carry: tuple[jax.Array, LSTMState], key: jax.Array) -> tuple[tuple[jax.Array, LSTMState], jax.Array]:
        token, lstm = carry
        logits, lstm = model.apply({"params": params}, token[None], lstm)
        token = jax.random.categorical(key, logits[0].at[UNKNOWN].set(-jnp.inf)).astype(prompt.dtype)
        return (token, lstm), token

    _, lstm = model.apply({"params": params}, prompt[:-1])
    return jax.lax.scan(step, (prompt[-1], lstm), jax.random.split(key, number))[1]


def report(run: Run, data: Text, train: np.ndarray, held_out: np.ndarray, prompt: str, sample: str) -> None:
    """Write results.json and curve.png, and print the table and the sample."""
    rows = run.metrics()
    bpc = {name: baseline(data.train, data.size, held_out) for name, baseline in BASELINES.items()}
    bpc["LSTM"] = rows[-1]["held_out"]
    counts = {"train_characters": train[..., 1:].size, "held_out_characters": held_out[..., 1:].size}
    counts |= {"alphabet": data.size, "held_out_unknown": int(np.sum(held_out[..., 1:] == UNKNOWN))}
    run.finish(counts | {"held_out_bits_per_character": bpc, "prompt": prompt, "sample": sample})
    steps = [row["step"] for row in rows]
    lines = {name: (steps, [row[name] for row in rows]) for name in ("train", "held_out")}
    lines |= {name: (steps, [bpc[name]] * len(steps)) for name in BASELINES}
    run.plot("curve.png", lines, y="bits per character")

    table = Table("model", "bits per character", title=f"{data.name}: {held_out[..., 1:].size} characters held out")
    for name, value in bpc.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)
    print(f"The held-out text begins:\n{prompt}\nThe LSTM continues:\n{sample}")


BASELINES = {"unigram, add-one": unigram_bits, "bigram, add-one": bigram_bits}

if __name__ == "__main__":
    start(main)
