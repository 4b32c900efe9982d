"""A short training of an RNN and two LSTMs on a long-lag task, so that gradients can be measured before and after.

The task is the adding problem (Hochreiter & Schmidhuber 1997). Each step has a number from U(0, 1) and a flag. Two
steps are flagged, one in each half. The target is the sum of their numbers. The constant answer 1 has the mean squared
error 1/6.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm
from crosscheck.core.jax_runner import jax_precision
from crosscheck.studies.gradient_flow.network import CellKind, FlowNetwork, initial_params

LAG, HIDDEN, BATCH = 50, 32, 32
RATE, CLIP = 1e-2, 1.0
HELD_OUT = 1_000
BASELINE = 1 / 6


class Trainee(NamedTuple):
    """A network that is trained: its names in tables and in a legend, its cell and its forget bias."""

    name: str
    label: str
    kind: CellKind
    forget_bias: float | str | None = None


TRAINED = (
    Trainee("RNN tanh", "RNN tanh", "rnn"),
    Trainee("LSTM, forget bias 1", "forget bias 1", "lstm", 1.0),
    Trainee("LSTM, chrono", "chrono", "lstm", f"chrono:{LAG}"),
)


def train(trainee: Trainee, steps: int, seed: int) -> tuple[list[FlowNetwork], tuple[float, float]]:
    """Train by Adam on batches of fresh sequences, in float64.

    Returns:
      The network before and after training, on one held-out sequence with the gradient of its own loss, and the mean
      squared errors on held-out sequences before and after.
    """
    kind = trainee.kind
    cell = initial_params(kind, 2, HIDDEN, seed, trainee.forget_bias)
    with jax_precision("float64"):
        keys = jax.random.split(jax.random.key(seed), 4)
        first = {
            "cell": cell,
            "weight": jax.random.normal(keys[0], (HIDDEN,)) / HIDDEN**0.5,
            "bias": jnp.zeros(()),
        }
        optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))

        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            params, memory = carry
            gradient = jax.grad(_loss)(params, kind, *adding_problem(key, BATCH))
            updates, memory = optimizer.update(gradient, memory, params)
            return (optax.apply_updates(params, updates), memory), None

        run = jax.jit(
            lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(keys[1], steps))
        )
        (last, _), _ = run(first)
        x, target = adding_problem(keys[2], HELD_OUT)
        before, after = (float(jax.jit(_loss, static_argnums=1)(p, kind, x, target)) for p in (first, last))
        x_one = np.asarray(adding_problem(keys[3], 1)[0][0])
        networks = [
            FlowNetwork(
                f"{trainee.name}, {when}",
                f"{trainee.label}, {when}",
                kind,
                jax.device_get(params["cell"]),
                x_one,
                np.asarray(params["weight"]),
            )
            for when, params in (("before", first), ("after", last))
        ]
    return networks, (before, after)


def adding_problem(key: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
    """Return x, `[batch, LAG, 2]`, and the target, `[batch]`."""
    numbers, early, late = jax.random.split(key, 3)
    u = jax.random.uniform(numbers, (batch, LAG))
    first = jax.random.randint(early, (batch,), 0, LAG // 2)
    second = jax.random.randint(late, (batch,), LAG // 2, LAG)
    flags = jax.nn.one_hot(first, LAG) + jax.nn.one_hot(second, LAG)
    return jnp.stack((u, flags), axis=-1), jnp.sum(u * flags, axis=1)


def _loss(params: Any, kind: CellKind, x: jax.Array, target: jax.Array) -> jax.Array:
    if kind == "rnn":
        _, last = jax_lstm.rnn(params["cell"], x)
    else:
        last = jax_lstm.lstm(params["cell"], x)[1].h
    return jnp.mean((last[0] @ params["weight"] + params["bias"] - target) ** 2)
