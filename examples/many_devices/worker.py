"""One process of data-parallel training; `train.py` starts it in several ways.

Every process runs this very code on the same numbers. Nothing in it says how many processes or devices there are: the
mesh is all devices of all processes, and arrays say by their sharding where they lie.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from examples.rounding import moved
from examples.run import Run, start

TEXT = "\n".join(topics[name] for name in sorted(topics))
LETTERS = "".join(sorted(set(TEXT)))
CODES = np.array([LETTERS.index(letter) for letter in TEXT], np.int32)


def main(
    folder: Path, settings: str, steps: int, every: int, devices: int, coordinator: str, processes: int, number: int
) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    options = json.loads(settings)
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_x64", options["dtype"] == "float64")
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, processes, number)
    train(Run(folder, options), steps, every, **options)


def train(run, steps, every, *, way, rounded, hidden, batch, length, learning_rate, dtype, seed):
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    everywhere, shared = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    optimizer = optax.adam(learning_rate)

    def loss(params, codes):
        x = jax.nn.one_hot(codes, len(LETTERS), dtype=dtype)
        y, _ = jax_lstm.lstm(params["lstm"], x[:, :-1])
        logits = y @ params["out"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, codes[:, 1:]).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state, codes, n):
        params, moments = state
        at = moved(params, jax.random.fold_in(jax.random.key(seed), n)) if rounded else params
        value, gradients = jax.value_and_grad(loss)(at, codes)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), {"loss": value}

    def train_step(state, n):
        starts = np.random.default_rng([seed, n]).integers(len(CODES) - length, size=batch)
        codes = CODES[starts[:, None] + np.arange(length + 1)]  # every process draws all; a device gets its rows
        return step(state, jax.make_array_from_callback(codes.shape, shared, lambda index: codes[index]), n)

    keys = jax.random.split(jax.random.key(seed))
    params = {
        "lstm": jax_lstm.init_lstm(keys[0], len(LETTERS), hidden, forget_bias=1.0, dtype=dtype),
        "out": jax.random.normal(keys[1], (hidden, len(LETTERS)), dtype) / hidden**0.5,
    }
    run.train(jax.device_put((params, optimizer.init(params)), everywhere), train_step, steps, every)


def end_with_parent():
    """The parent holds the other end of our standard input. When it dies, however it dies, that ends, and so do we."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    start(main)
