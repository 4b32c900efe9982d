"""Sets and clouds of points: pooling that knows no order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import (
    Params,
    attend,
    draw_input,
    draw_valid,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
)
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L, Sequential, ReLU = torch.nn.Linear, torch.nn.Sequential, torch.nn.ReLU


def _cloud_torch(m: Any, points: Any) -> Any:
    return m.head(m.points(points).amax(1))


def _cloud(params: Params, points: Any, *, pool: Callable[..., Any] = jnp.max) -> Any:
    hidden = jax.nn.relu(linear(params, "points.0", points))
    return linear(params, "head", pool(linear(params, "points.2", hidden), axis=1))


def _draw_cloud(rng: np.random.Generator) -> Drawn:
    batch, count, hidden, wide, out = sizes(rng, 5, 2, 12)
    with seeded(rng):
        points = Sequential(L(3, hidden), ReLU(), L(hidden, wide))
        module = Calls(_cloud_torch, points=points, head=L(wide, out))
    return Drawn(_cloud, module, (draw_input(rng, batch, count, 3, unkind=("offset", "small")),))


def _sets_torch(m: Any, x: Any, valid: Any) -> Any:
    return m.whole((m.each(x) * valid[..., None]).sum(1))


def _sets(params: Params, x: Any, valid: Any, *, mask: bool = True) -> Any:
    each = jnp.tanh(linear(params, "each.2", jnp.tanh(linear(params, "each.0", x))))
    total = jnp.sum(each, axis=1, where=valid[..., None] if mask else None)
    return linear(params, "whole.2", jnp.tanh(linear(params, "whole.0", total)))


def _draw_sets(rng: np.random.Generator) -> Drawn:
    batch, count, size, hidden, out = sizes(rng, 5, 2, 9)
    with seeded(rng):
        each = Sequential(L(size, hidden), torch.nn.Tanh(), L(hidden, hidden), torch.nn.Tanh())
        module = Calls(_sets_torch, each=each, whole=Sequential(L(hidden, hidden), torch.nn.Tanh(), L(hidden, out)))
    x = draw_input(rng, batch, count, size, unkind=("quantised", "small", "zeros"))
    return Drawn(_sets, module, (x, draw_valid(rng, batch, count)))


def _set_pool_torch(m: Any, x: Any) -> Any:
    """Pooling by multi-head attention of the set transformer, which adds the projected query."""
    seeds, keys = m.seeds.expand(len(x), -1, -1), torch.relu(m.feature(x))
    q, k, v = (f(a).unflatten(-1, (m.heads, -1)).transpose(1, 2) for f, a in ((m.q, seeds), (m.k, keys), (m.v, keys)))
    weights = (q @ k.mT / m.q.out_features**0.5).softmax(-1)
    h = m.norm0((q + weights @ v).transpose(1, 2).flatten(2))
    return m.norm1(h + torch.relu(m.o(h)))


def _width(width: int, size: int) -> int:
    return width


def _size(width: int, size: int) -> int:
    return size


def _set_pool(params: Params, x: Any, *, heads: int, root: Callable[[int, int], int] = _width, add: bool = True) -> Any:
    keys, seeds = jax.nn.relu(linear(params, "feature", x)), params["seeds"]
    seeds = jnp.broadcast_to(seeds, (len(x), *seeds.shape[1:]))
    q, k, v = (split_heads(linear(params, n, a), heads) for n, a in (("q", seeds), ("k", keys), ("v", keys)))
    out = attend(q, k, v, scale=root(heads * q.shape[-1], q.shape[-1]) ** -0.5)
    h = layer_norm(params, "norm0", merge_heads(q + out if add else out))
    return layer_norm(params, "norm1", h + jax.nn.relu(linear(params, "o", h)))


def _draw_set_pool(rng: np.random.Generator) -> Drawn:
    batch, count, heads, size, seeds = sizes(rng, 5, 2, 7)
    width = heads * size
    with seeded(rng):
        layers = {name: L(width, width) for name in ("feature", "q", "k", "v", "o")}
        norms = {f"norm{n}": torch.nn.LayerNorm(width) for n in (0, 1)}
        module = Calls(
            _set_pool_torch, **layers, **norms, seeds=torch.nn.Parameter(torch.randn(1, seeds, width)), heads=heads
        )
    x = draw_input(rng, batch, count, width, unkind=("quantised", "small"))
    return Drawn(partial(_set_pool, heads=heads), module, (x,))


PAIRS = (
    ModelPair("pointnet", "a network per point and a maximum over points", _draw_cloud),
    ModelPair("deep-sets", "deep sets with a mask", _draw_sets),
    ModelPair("set-transformer-pool", "the set transformer's pooling by attention", _draw_set_pool),
)
MISTAKES = (
    Mistake("pointnet-mean", "pointnet", "points are averaged", options(pool=jnp.mean)),
    Mistake("deep-sets-no-mask", "deep-sets", "padded elements count", options(mask=False)),
    Mistake(
        "deep-sets-full",
        "deep-sets",
        "padded elements count",
        with_input(1, np.ones_like, options(mask=False)),
        hidden_by="no element is padded",
        answer="every number of",
    ),
    Mistake(
        "set-pool-root",
        "set-transformer-pool",
        "the scale is that of one head",
        options(root=_size),
    ),
    Mistake("set-pool-no-query", "set-transformer-pool", "the query is not added", options(add=False)),
)
