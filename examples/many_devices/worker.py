"""One process of data-parallel training, which `train.py` starts.

Every process runs the same code on the same numbers. The code does not depend on the number of processes or devices:
the mesh has all devices of all processes, and a sharding says on which devices an array lies.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from examples.rounding import perturbed
from examples.run import Metrics, Run, State, start

TEXT = "\n".join(topics[name] for name in sorted(topics))
LETTERS = "".join(sorted(set(TEXT)))
CODES = np.array([LETTERS.index(letter) for letter in TEXT], np.int32)


def main(
    folder: Path, settings: str, steps: int, every: int, devices: int, coordinator: str, processes: int, number: int
) -> None:
    """Join the other processes, and train."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    options = json.loads(settings)
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_x64", options["dtype"] == "float64")
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, processes, number)
    train(Run(folder, options), steps, every, **options)


def train(
    run: Run,
    steps: int,
    every: int,
    *,
    way: str,
    rounded: bool,
    hidden: int,
    batch: int,
    length: int,
    learning_rate: float,
    dtype: str,
    seed: int,
) -> None:
    """Train on all devices of all processes. If ``rounded``, perturb the weights before each step."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    replicated, by_rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    optimizer = optax.adam(learning_rate)

    def loss(params: Any, codes: jax.Array) -> jax.Array:
        x = jax.nn.one_hot(codes, len(LETTERS), dtype=dtype)
        y, _ = jax_lstm.lstm(params["lstm"], x[:, :-1])
        logits = y @ params["out"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, codes[:, 1:]).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, codes: jax.Array, n: int) -> tuple[State, Metrics]:
        params, moments = state
        at = perturbed(params, jax.random.fold_in(jax.random.key(seed), n)) if rounded else params
        value, gradients = jax.value_and_grad(loss)(at, codes)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), {"loss": value}

    def train_step(state: State, n: int) -> tuple[State, Metrics]:
        starts = np.random.default_rng([seed, n]).integers(len(CODES) - length, size=batch)
        codes = CODES[starts[:, None] + np.arange(length + 1)]  # every process draws all rows
        return step(state, jax.make_array_from_callback(codes.shape, by_rows, lambda index: codes[index]), n)

    keys = jax.random.split(jax.random.key(seed))
    params = {
        "lstm": jax_lstm.init_lstm(keys[0], len(LETTERS), hidden, forget_bias=1.0, dtype=dtype),
        "out": jax.random.normal(keys[1], (hidden, len(LETTERS)), dtype) / hidden**0.5,
    }
    run.train(jax.device_put((params, optimizer.init(params)), replicated), train_step, steps, every)


def end_with_parent() -> None:
    """End this process when the parent dies. The parent holds the other end of standard input, which then closes."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    start(main)
