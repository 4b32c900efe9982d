"""Positions that are added to the inputs: tables of sines, and learned tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import Params, draw_input, draw_lengths, layer_norm, linear
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

Table = torch.nn.Embedding


def _sinusoid(steps: int, size: int) -> np.ndarray:
    angles = np.arange(steps)[:, None] * 10000 ** (-np.arange(0, size, 2) / size)
    table: np.ndarray = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(steps, size)
    return table


def _sinusoid_torch(m: Any, x: Any) -> Any:
    """The table is a buffer, computed in float32 as in PyTorch's tutorial."""
    return m.out(x * x.shape[-1] ** 0.5 + m.table[: x.shape[1]])


def _add_table(params: Params, x: Any, *, table: np.ndarray, scale: Callable[[int], float] = lambda d: d**0.5) -> Any:
    return linear(params, "out", x * scale(x.shape[-1]) + table[: x.shape[1]])


def _draw_sinusoid(rng: np.random.Generator, rounded: bool) -> Drawn:
    """The port has the table of the module, or one of its own in float64, which torch's can only round to."""
    batch, steps, half, out = sizes(rng, 4, 2, 9)
    table = _sinusoid(12, 2 * half)
    with seeded(rng):
        module = Calls(_sinusoid_torch, out=torch.nn.Linear(2 * half, out))
    module.register_buffer("table", torch.tensor(table if not rounded else table.astype(np.float32)))
    port = partial(_add_table, table=table.astype(np.float32) if rounded else table)
    return Drawn(port, module, (draw_input(rng, batch, steps, 2 * half, unkind=("small", "zeros")),))


def _learned_torch(m: Any, ids: Any) -> Any:
    """As in RoBERTa: positions count the tokens that are no padding, and begin behind the padding's row."""
    real = (ids != 1).int()
    places = (torch.cumsum(real, 1) * real).long() + 1
    return m.norm(m.words(ids) + m.places(places))


def _learned(params: Params, ids: Any, *, first: int = 1, skip: bool = True) -> Any:
    real = (jnp.asarray(ids) != 1).astype(jnp.int32)
    places = jnp.cumsum(real, axis=1) * real + first if skip else jnp.arange(2, ids.shape[1] + 2)
    rows = jax.lax.stop_gradient(params["places.weight"][1])
    table = params["places.weight"].at[1].set(rows)
    words = params["words.weight"].at[1].set(jax.lax.stop_gradient(params["words.weight"][1]))
    return layer_norm(params, "norm", words[ids] + table[places])


def _draw_learned(rng: np.random.Generator) -> Drawn:
    batch, steps, words, size = sizes(rng, 4, 3, 10)
    with seeded(rng):
        tables = {"words": Table(words, size, padding_idx=1), "places": Table(14, size, padding_idx=1)}
        module = Calls(_learned_torch, **tables, norm=torch.nn.LayerNorm(size))
    ids = rng.integers(2, words, (batch, steps))
    ids[np.arange(steps) < steps - draw_lengths(rng, batch, steps)[:, None]] = 1
    return Drawn(_learned, module, (ids,))


PAIRS = (
    ModelPair("positions-sinusoid", "a float32 table of sines on both sides", partial(_draw_sinusoid, rounded=True)),
    ModelPair("positions-sinusoid-wide", "a float64 table of sines in NumPy", partial(_draw_sinusoid, rounded=False)),
    ModelPair("positions-learned", "RoBERTa's positions, which skip the padding", _draw_learned),
)
MISTAKES = (
    Mistake(
        "sinusoid-scale",
        "positions-sinusoid",
        "inputs are not multiplied by the root of D",
        options(scale=lambda d: 1.0),
    ),
    Mistake("positions-first", "positions-learned", "positions begin a row too early", options(first=0)),
    Mistake("positions-padding", "positions-learned", "positions count the padding", options(skip=False)),
    Mistake(
        "positions-no-padding",
        "positions-learned",
        "positions count the padding",
        with_input(0, lambda ids: np.maximum(ids, 2), options(skip=False)),
        hidden_by="no token is padding",
        answer="no index is the padding index 1",
    ),
)
