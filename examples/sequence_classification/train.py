"""Handwritten digits as sequences: an image of 8 x 8 read by rows (T = 8, D = 8) or pixel by pixel (T = 64, D = 1).

An LSTM (Hochreiter & Schmidhuber, 1997) reads the image, and a linear layer names the digit from its last state; once
forwards and once in both directions. Reading images pixel by pixel is the task of Le, Jaitly & Hinton (2015), here on
the 1,797 digits that scikit-learn carries (Alpaydin & Kaynak, 1998). Classifiers that see the whole image at once are
fitted on the same training images and judged on the same test images.

    python -m examples.sequence_classification.train
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from flax import nnx
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

import jax_lstm.nnx
from examples.run import Run, start

READERS = {  # name: how x [B, 64] becomes [B, T, D], and whether it is read in both directions
    "rows": ((8, 8), False),
    "rows, both ways": ((8, 8), True),
    "pixels": ((64, 1), False),
    "pixels, both ways": ((64, 1), True),
}
BASELINES = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "5 nearest neighbours": KNeighborsClassifier(),
    "support vectors, RBF": SVC(),
}


class Reader(nnx.Module):
    """x [B, T, D] -> logits [B, 10]."""

    def __init__(self, shape: tuple[int, int], hidden: int, bidirectional: bool, rngs: nnx.Rngs):
        self.shape = shape  # T, D
        self.lstm = jax_lstm.nnx.LSTM(shape[1], hidden, bidirectional=bidirectional, forget_bias=1.0, rngs=rngs)
        self.out = nnx.Linear(2 * hidden if bidirectional else hidden, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        _, last = self.lstm(images.reshape(-1, *self.shape))
        return self.out(jnp.concatenate(last.h, axis=-1))  # last.h [directions, B, H]


def main(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/sequence_classification"),
    hidden: Annotated[int, typer.Option(min=1, help="hidden units of each reader")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="images a step")] = 64,
    steps: Annotated[int, typer.Option(min=1)] = 1500,
    every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 100,
    learning_rate: Annotated[float, typer.Option(min=0, help="at the start; falls to 0 along a cosine")] = 1e-2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Reads handwritten digits by rows and pixel by pixel; test accuracy beside that of three other classifiers."""
    settings = {"hidden": hidden, "batch": batch, "learning_rate": learning_rate, "seed": seed, "steps": steps}
    run = Run(out, {"example": "sequence_classification"} | settings)
    parts = split(seed)
    images, labels = parts["training"]

    readers = nnx.Dict({name: Reader(shape, hidden, both, nnx.Rngs(seed)) for name, (shape, both) in READERS.items()})
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(learning_rate, steps)))
    optimizers = nnx.Dict({name: nnx.Optimizer(reader, adam, wrt=nnx.Param) for name, reader in readers.items()})
    graph, state = nnx.split((readers, optimizers))

    @partial(jax.jit, donate_argnums=0)
    def step(state, images, labels):
        readers, optimizers = nnx.merge(graph, state)
        losses = {}
        for name, reader in readers.items():
            losses[f"loss, {name}"], gradients = nnx.value_and_grad(cross_entropy)(reader, images, labels)
            optimizers[name].update(reader, gradients)
        return nnx.state((readers, optimizers)), losses

    @jax.jit
    def accuracy(state, images, labels):
        readers, _ = nnx.merge(graph, state)
        return {name: jnp.mean(reader(images).argmax(-1) == labels) for name, reader in readers.items()}

    def train_step(state, n):
        chosen = np.random.default_rng([seed, n]).integers(len(images), size=batch)
        return step(state, images[chosen], labels[chosen])

    def validate(state):
        return {f"validation, {name}": float(a) for name, a in accuracy(state, *parts["validation"]).items()}

    state = run.train(state, train_step, steps, every, validate)
    found = {f"LSTM, {name}": float(a) for name, a in accuracy(state, *parts["test"]).items()}
    found |= {name: model.fit(images, labels).score(*parts["test"]) for name, model in BASELINES.items()}
    run.finish({"test accuracy": found, "images": {name: len(part[1]) for name, part in parts.items()}})
    rows = run.metrics()
    along = [row["step"] for row in rows]
    curves = {name: (along, [row[f"validation, {name}"] for row in rows]) for name in READERS}
    run.plot("curve.png", curves, y="accuracy on the validation images")
    show(found, len(parts["test"][1]))


def split(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """60 % training, 20 % validation and 20 % test, each digit equally often in each."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    images, held, labels, held_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    return {"training": (images, labels), "validation": (held, held_labels), "test": (test_images, test_labels)}


def cross_entropy(reader: Reader, images: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(reader(images), labels).mean()


def show(found: dict[str, float], count: int) -> None:
    table = Table("classifier", "test accuracy", "wrong", caption=f"{count} test images")
    for name, accuracy in found.items():
        table.add_row(name, f"{accuracy:.1%}", str(round((1 - accuracy) * count)))
    Console().print(table)


if __name__ == "__main__":
    start(main)
