"""A short training of an RNN and two LSTMs on a long-lag task, so that gradients can be measured before and after.

The adding problem (Hochreiter & Schmidhuber 1997): each step brings a number from U(0, 1) and a flag; two steps, one in
each half, are flagged; the target is the sum of their numbers. Whoever always says 1 errs by 1/6.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lstm
from crosscheck.core.jax_runner import jax_precision
from crosscheck.studies.gradient_flow.network import FlowNetwork, drawn

LAG, HIDDEN, BATCH = 50, 32, 32
RATE, CLIP = 1e-2, 1.0
HELD_OUT = 1_000
BASELINE = 1 / 6
TRAINED = (("RNN tanh", "rnn", None), ("LSTM, forget bias 1", "lstm", 1.0), ("LSTM, chrono", "lstm", f"chrono:{LAG}"))


@dataclass(frozen=True)
class Trained:
    """A network before and after training, measured on one held-out sequence with its own loss's gradient.

    errors: the mean squared errors on held-out sequences, before and after.
    """

    before: FlowNetwork
    after: FlowNetwork
    errors: tuple[float, float]


def train(name: str, kind: str, forget_bias: float | str | None, steps: int, seed: int) -> Trained:
    """``steps`` of Adam at batches of fresh sequences, in float64, from seeds that follow from ``seed``."""
    cell = drawn(kind, 2, HIDDEN, seed, forget_bias)
    with jax_precision("float64"):
        keys = jax.random.split(jax.random.key(seed), 4)
        first = {
            "cell": cell,
            "weight": jax.random.normal(keys[0], (HIDDEN,)) / HIDDEN**0.5,
            "bias": jnp.zeros(()),
        }
        optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))

        def step(carry, key):
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
            FlowNetwork(f"{name}, {when}", kind, jax.device_get(p["cell"]), x_one, np.asarray(p["weight"]))
            for when, p in (("before", first), ("after", last))
        ]
    return Trained(networks[0], networks[1], (before, after))


def adding_problem(key, batch: int):
    """x [batch, LAG, 2] and the target [batch]."""
    numbers, early, late = jax.random.split(key, 3)
    u = jax.random.uniform(numbers, (batch, LAG))
    first = jax.random.randint(early, (batch,), 0, LAG // 2)
    second = jax.random.randint(late, (batch,), LAG // 2, LAG)
    flags = jax.nn.one_hot(first, LAG) + jax.nn.one_hot(second, LAG)
    return jnp.stack((u, flags), axis=-1), jnp.sum(u * flags, axis=1)


def _loss(params, kind, x, target):
    if kind == "rnn":
        _, last = jax_lstm.rnn(params["cell"], x)
    else:
        last = jax_lstm.lstm(params["cell"], x)[1].h
    return jnp.mean((last[0] @ params["weight"] + params["bias"] - target) ** 2)
