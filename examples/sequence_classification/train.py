"""Handwritten digits as sequences: an image of 8 x 8 read by rows (T = 8, D = 8) or pixel by pixel (T = 64, D = 1).

An LSTM (Hochreiter & Schmidhuber, 1997) reads the image forwards or in both directions, and a linear layer classifies
its last state. Reading images pixel by pixel is the task of Le, Jaitly & Hinton (2015), here with the 1,797 digits of
scikit-learn (Alpaydin & Kaynak, 1998). Three classifiers that see the whole image at once are fitted on the same
training images and tested on the same test images.

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
from examples.run import Metrics, Run, State, start

READERS = {  # name: (T, D), and whether the LSTM is bidirectional
    "rows": ((8, 8), False),
    "rows, both directions": ((8, 8), True),
    "pixels": ((64, 1), False),
    "pixels, both directions": ((64, 1), True),
}
BASELINES = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "5 nearest neighbours": KNeighborsClassifier(),
    "support vectors, RBF": SVC(),
}


class Reader(nnx.Module):
    """A network from images `[B, 64]` to logits `[B, 10]`."""

    def __init__(self, shape: tuple[int, int], hidden: int, bidirectional: bool, rngs: nnx.Rngs) -> None:
        self.shape = shape  # T, D
        self.lstm = jax_lstm.nnx.LSTM(shape[1], hidden, bidirectional=bidirectional, forget_bias=1.0, rngs=rngs)
        self.out = nnx.Linear(2 * hidden if bidirectional else hidden, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        _, last = self.lstm(images.reshape(-1, *self.shape))
        return self.out(jnp.concatenate(last.h, axis=-1))  # last.h [directions, B, H]


def main(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/sequence_classification"),
    hidden: Annotated[int, typer.Option(min=1, help="hidden units of each reader")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="images per step")] = 64,
    steps: Annotated[int, typer.Option(min=1)] = 1500,
    every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 100,
    learning_rate: Annotated[float, typer.Option(min=0, help="initial rate; decays to 0 along a cosine")] = 1e-2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Classify handwritten digits, read by rows and by pixels, and compare with three other classifiers."""
    settings = {"hidden": hidden, "batch": batch, "learning_rate": learning_rate, "seed": seed, "steps": steps}
    run = Run(out, {"example": "sequence_classification"} | settings)
    parts = split(seed)
    images, labels = parts["training"]

    readers = nnx.Dict({name: Reader(shape, hidden, both, nnx.Rngs(seed)) for name, (shape, both) in READERS.items()})
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(learning_rate, steps)))
    optimizers = nnx.Dict({name: nnx.Optimizer(reader, adam, wrt=nnx.Param) for name, reader in readers.items()})
    graph, state = nnx.split((readers, optimizers))

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, Metrics]:
        readers, optimizers = nnx.merge(graph, state)
        losses = {}
        for name, reader in readers.items():
            losses[f"loss, {name}"], gradients = nnx.value_and_grad(cross_entropy)(reader, images, labels)
            optimizers[name].update(reader, gradients)
        return nnx.state((readers, optimizers)), losses

    @jax.jit
    def accuracy(state: State, images: jax.Array, labels: jax.Array) -> Metrics:
        readers, _ = nnx.merge(graph, state)
        return {name: jnp.mean(reader(images).argmax(-1) == labels) for name, reader in readers.items()}

    def train_step(state: State, n: int) -> tuple[State, Metrics]:
        chosen = np.random.default_rng([seed, n]).integers(len(images), size=batch)
        return step(state, images[chosen], labels[chosen])

    def validate(state: State) -> Metrics:
        return {f"validation, {name}": float(a) for name, a in accuracy(state, *parts["validation"]).items()}

    state = run.train(state, train_step, steps, every, validate)
    accuracies = {f"LSTM, {name}": float(a) for name, a in accuracy(state, *parts["test"]).items()}
    accuracies |= {name: model.fit(images, labels).score(*parts["test"]) for name, model in BASELINES.items()}
    run.finish({"test accuracy": accuracies, "images": {name: len(part[1]) for name, part in parts.items()}})
    rows = run.metrics()
    step_numbers = [row["step"] for row in rows]
    curves = {name: (step_numbers, [row[f"validation, {name}"] for row in rows]) for name in READERS}
    run.plot("curve.png", curves, y="accuracy on the validation images")
    show(accuracies, len(parts["test"][1]))


def split(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images `[N, 64]` and labels: 60 % training, 20 % validation and 20 % test, stratified by digit."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    images, validation_images, labels, validation_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    return {
        "training": (images, labels),
        "validation": (validation_images, validation_labels),
        "test": (test_images, test_labels),
    }


def cross_entropy(reader: Reader, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross entropy of a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(reader(images), labels).mean()


def show(accuracies: dict[str, float], count: int) -> None:
    """Print the table."""
    table = Table("classifier", "test accuracy", "wrong", caption=f"{count} test images")
    for name, accuracy in accuracies.items():
        table.add_row(name, f"{accuracy:.1%}", str(round((1 - accuracy) * count)))
    Console().print(table)


if __name__ == "__main__":
    start(main)
