"""One of two processes that compute the gradients of one batch. Each has two devices. test_processes.py starts both.

Each process has only its own half of the rows. It writes the gradients of all weights, and of its own half of x.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import crosscheck
import jax_lstm

B, T, D, H = 8, 7, 3, 4
PROCESSES, DEVICES = 2, 2
ROWS = B // PROCESSES
CASES = {
    "default": {},
    "chunks and truncation": {"checkpoint_every": 3, "truncate_every": 2},
}


def problem() -> tuple[dict[str, jax.Array], np.ndarray, np.ndarray]:
    """Return parameters, x and lengths."""
    rng = np.random.default_rng(0)
    params = jax_lstm.init_lstm(jax.random.key(0), D, H, bidirectional=True, proj_size=2, dtype=jnp.float64)
    return params, rng.normal(size=(B, T, D)), rng.integers(T + 1, size=B)


def loss(params: dict[str, jax.Array], x: Any, lengths: Any, **options: Any) -> jax.Array:
    """Return a loss of all outputs."""
    y, last = jax_lstm.lstm(params, x, lengths=lengths, **options)
    return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(last.c**3)


def gradients(name: str) -> Callable[..., Any]:
    """Return a function that gives the gradients of parameters and x."""
    return jax.grad(lambda *arguments: loss(*arguments, **CASES[name]), (0, 1))


def gradients_by_shard_map(name: str, mesh: jax.sharding.Mesh) -> Callable[..., Any]:
    """Return the same function, with the loss in a shard_map over the rows."""

    def local(*arguments: Any) -> jax.Array:
        return jax.lax.psum(loss(*arguments, **CASES[name]), "data")

    total = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P())
    return jax.grad(total, (0, 1))


def write_gradients(coordinator: str, number: int, folder: Path) -> None:
    """Write the gradients, and the loops in which the compiled programs communicate."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, PROCESSES, number)
    params, *data = problem()
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    own_rows = slice(number * ROWS, (number + 1) * ROWS)
    data = [jax.make_array_from_process_local_data(NamedSharding(mesh, P("data")), a[own_rows], a.shape) for a in data]
    loops = {}
    for name in CASES:
        for way, function in {"jit": gradients(name), "shard_map": gradients_by_shard_map(name, mesh)}.items():
            compiled = jax.jit(function).lower(params, *data).compile()
            loops[f"{way}, {name}"] = sorted({c.loops for c in crosscheck.find_collectives(compiled)})
            d_params, d_x = compiled(params, *data)
            shards = sorted(d_x.addressable_shards, key=lambda shard: shard.index[0].start)
            rows = np.concatenate([shard.data for shard in shards])
            np.savez(folder / f"{way}, {name}, {number}.npz", x=rows, **d_params)
    (folder / f"{number}.json").write_text(json.dumps({"devices": jax.device_count(), "loops": loops}))
