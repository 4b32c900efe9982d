"""Positions in attention: rotary, ALiBi, relative biases, and tables that are added to the inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import Params, attend, causal, draw_input, flip, linear, split_heads
from crosscheck.models.changing import around, options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded


def _rotary_torch(m: Any, q: Any, k: Any, place: Any) -> Any:
    """As in HF Llama: angles in float32, from a buffer of frequencies, and halves that rotate. Keys start at 0."""

    def turned(x: Any, positions: Any) -> Any:
        angles = positions[..., None].float() * m.frequencies.float()
        angles = torch.cat([angles, angles], -1)
        a, b = x.chunk(2, -1)
        return x * angles.cos().to(x.dtype) + torch.cat([-b, a], -1) * angles.sin().to(x.dtype)

    return turned(q, place[:, None]) @ turned(k, torch.arange(k.shape[2])).mT


def _rotate_halves(x: Any, cos: Any, sin: Any) -> Any:
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _rotate_pairs(x: Any, cos: Any, sin: Any) -> Any:
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)


def _rotary(
    params: Params,
    q: Any,
    k: Any,
    place: Any,
    *,
    frequencies: Any,
    narrow: bool,
    rotate: Callable[..., Any] = _rotate_halves,
) -> Any:
    def turned(x: Any, positions: Any) -> Any:
        dtype = jnp.float32 if narrow else x.dtype
        angles = (positions[..., None].astype(dtype) * frequencies).astype(dtype)
        return rotate(x, jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype))

    return turned(q, place[:, None]) @ turned(k, jnp.arange(k.shape[2])).swapaxes(-1, -2)


def _draw_rotary(rng: np.random.Generator, narrow: bool) -> Drawn:
    """The keys are a cache, and the queries stand somewhere behind its beginning."""
    batch, heads, half, steps, length = sizes(rng, 5, 2, 9)
    frequencies = (10000 ** (-np.arange(half) / half)).astype(np.float32)
    module = Calls(_rotary_torch)
    module.register_buffer("frequencies", torch.tensor(frequencies))
    place = np.arange(steps) + rng.integers(1, 500 if flip(rng) else 9, (batch, 1))
    unkind = ("offset", "large")
    q, k = (draw_input(rng, batch, heads, n, 2 * half, unkind=unkind) for n in (steps, length))
    return Drawn(partial(_rotary, frequencies=frequencies, narrow=narrow), module, (q, k, place))


def _partial_torch(m: Any, x: Any) -> Any:
    """As in GPT-J and GPT-NeoX: the first numbers of a head rotate, in pairs, by complex products."""
    q, k = (a.unflatten(-1, (m.heads, -1)).transpose(1, 2) for a in m.qk(x).chunk(2, -1))
    steps = torch.arange(x.shape[1], dtype=x.dtype)
    angles = torch.outer(steps, 10000 ** (-torch.arange(0, m.turning, 2, dtype=x.dtype) / m.turning))
    turn = torch.polar(torch.ones_like(angles), angles)

    def turned(a: Any) -> Any:
        pairs = torch.view_as_complex(a[..., : m.turning].unflatten(-1, (-1, 2)).contiguous())
        return torch.cat([torch.view_as_real(pairs * turn).flatten(-2), a[..., m.turning :]], -1)

    return turned(q) @ turned(k).mT


def _partial(
    params: Params,
    x: Any,
    *,
    heads: int,
    turning: int,
    rotate: Callable[..., Any] = _rotate_pairs,
    base: float = 10000.0,
) -> Any:
    q, k = (split_heads(a, heads) for a in jnp.split(linear(params, "qk", x), 2, axis=-1))
    steps = jnp.arange(x.shape[1], dtype=x.dtype)
    angles = jnp.outer(steps, base ** (-jnp.arange(0, turning, 2, dtype=x.dtype) / turning))

    def turned(a: Any) -> Any:
        rotated = rotate(a[..., :turning], jnp.cos(angles), jnp.sin(angles))
        return jnp.concatenate([rotated, a[..., turning:]], axis=-1)

    return turned(q) @ turned(k).swapaxes(-1, -2)


def _draw_partial(rng: np.random.Generator) -> Drawn:
    batch, heads, steps = sizes(rng, 3, 3, 6)
    turning = 2 * int(rng.integers(2, 4))
    width = heads * (turning + int(rng.integers(0, 3)))
    with seeded(rng):
        module = Calls(_partial_torch, qk=torch.nn.Linear(width, 2 * width), heads=heads, turning=turning)
    return Drawn(partial(_partial, heads=heads, turning=turning), module, (draw_input(rng, batch, steps, width),))


def _alibi_torch(m: Any, q: Any, k: Any, v: Any) -> Any:
    heads, steps = q.shape[1], q.shape[2]
    slopes = torch.tensor([2 ** (-8 * (h + 1) / heads) for h in range(heads)], dtype=q.dtype)
    behind = torch.arange(steps) - torch.arange(steps)[:, None]
    scores = q @ k.mT / math.sqrt(q.shape[-1]) + slopes[:, None, None] * behind
    return scores.masked_fill(behind > 0, -torch.inf).softmax(-1) @ v


def _alibi(params: Params, q: Any, k: Any, v: Any, *, first: int = 1) -> Any:
    heads, steps = q.shape[1], q.shape[2]
    slopes = 2.0 ** (-8 * jnp.arange(first, heads + first, dtype=q.dtype) / heads)
    place = jnp.arange(steps, dtype=q.dtype)
    return attend(q, k, v, causal(steps), bias=-slopes[:, None, None] * (place[:, None] - place))


def _draw_alibi(rng: np.random.Generator) -> Drawn:
    batch, steps, size, out = sizes(rng, 4, 2, 9)
    heads = int(2 ** rng.integers(1, 4))
    inputs = (draw_input(rng, batch, heads, steps, n, unkind=("quantised", "small")) for n in (size, size, out))
    return Drawn(_alibi, Calls(_alibi_torch), tuple(inputs))


def t5_buckets_torch(distance: Any, both: bool, buckets: int, far: int) -> Any:
    """Return buckets as HF T5 computes them. ``distance`` is the key's position minus the query's."""
    start = torch.zeros_like(distance)
    if both:
        buckets //= 2
        start = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -torch.min(distance, torch.zeros_like(distance))
    exact = buckets // 2
    large = exact + (torch.log(distance.float() / exact) / math.log(far / exact) * (buckets - exact)).long()
    return start + torch.where(distance < exact, distance, large.clamp(max=buckets - 1))


def t5_buckets(distance: np.ndarray, both: bool, buckets: int, far: int) -> np.ndarray:
    """Return the same buckets in NumPy."""
    buckets = buckets // 2 if both else buckets
    start = np.where(distance > 0, buckets, 0) if both else 0
    distance = np.abs(distance) if both else np.maximum(-distance, 0)
    exact = buckets // 2
    part = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / np.log(far / exact)
    large = np.minimum(exact + (part * (buckets - exact)).astype(int), buckets - 1)
    chosen: np.ndarray = start + np.where(distance < exact, distance, large)
    return chosen


def _t5_torch(m: Any, q: Any, k: Any) -> Any:
    distance = torch.arange(k.shape[2]) - torch.arange(q.shape[2])[:, None]
    bias = m.table(t5_buckets_torch(distance, m.both, m.table.num_embeddings, m.far))
    return (q @ k.mT + bias.permute(2, 0, 1)).softmax(-1)


def _t5(params: Params, q: Any, k: Any, *, both: bool, far: int, sign: int = 1) -> Any:
    distance = sign * (np.arange(k.shape[2]) - np.arange(q.shape[2])[:, None])
    table = params["table.weight"]
    bias = table[t5_buckets(distance, both, len(table), far)]
    return jax.nn.softmax(q @ k.swapaxes(-1, -2) + bias.transpose(2, 0, 1), axis=-1)


def _draw_t5(rng: np.random.Generator) -> Drawn:
    batch, heads, size = sizes(rng, 3, 2, 5)
    both, far = flip(rng), int(rng.choice([11, 13, 23]))
    with seeded(rng):
        module = Calls(_t5_torch, table=torch.nn.Embedding(12, heads), both=both, far=far)
    queries, keys = (int(n) for n in rng.integers(16, 21, 2))
    inputs = tuple(draw_input(rng, batch, heads, n, size, unkind=("quantised", "small")) for n in (queries, keys))
    return Drawn(partial(_t5, both=both, far=far), module, inputs)


def _shaw_torch(m: Any, q: Any, k: Any) -> Any:
    """Relative keys in memory-efficient form: a pad and a reshape move each row by its number."""
    scores = q @ m.relative.T
    batch, steps = scores.shape[:2]
    moved = torch.nn.functional.pad(scores, (1, 0)).reshape(batch, steps + 1, steps)[:, 1:]
    return (q @ k.mT + moved).tril().tanh()


def _shaw(params: Params, q: Any, k: Any, *, shift: int = 0) -> Any:
    steps = q.shape[1]
    behind = jnp.arange(steps)[:, None] - jnp.arange(steps)
    keys = params["relative"][jnp.clip(steps - 1 - behind - shift, 0, steps - 1)]
    return jnp.tanh(jnp.tril(q @ k.swapaxes(1, 2) + jnp.einsum("btd,tsd->bts", q, keys)))


def _draw_shaw(rng: np.random.Generator) -> Drawn:
    batch, steps, size = sizes(rng, 3, 2, 10)
    with seeded(rng):
        module = Calls(_shaw_torch, relative=torch.nn.Parameter(torch.randn(steps, size)))
    unkind = ("quantised", "small", "zeros")
    return Drawn(_shaw, module, tuple(draw_input(rng, batch, steps, size, unkind=unkind) for _ in "qk"))


def _without_place(port: Callable[..., Any], params: Params, q: Any, k: Any, place: Any) -> Any:
    return port(params, q, k, jnp.broadcast_to(jnp.arange(place.shape[1]), place.shape))


PAIRS = (
    ModelPair(
        "rotary-float32-plain", "HF Llama's rotary, in float32 in torch only", partial(_draw_rotary, narrow=False)
    ),
    ModelPair("rotary-float32", "HF Llama's rotary, in float32 on both sides", partial(_draw_rotary, narrow=True)),
    ModelPair("rotary-partial", "rotary in pairs over a part of each head", _draw_partial),
    ModelPair("alibi", "ALiBi with causal attention", _draw_alibi),
    ModelPair("relative-t5", "T5's buckets of relative positions", _draw_t5),
    ModelPair("relative-shaw", "relative keys by a skew against a gather", _draw_shaw),
)
MISTAKES = (
    Mistake("rotary-pairs", "rotary-float32-plain", "pairs rotate, not halves", options(rotate=_rotate_pairs)),
    Mistake("rotary-place", "rotary-float32-plain", "queries start at 0", around(_without_place)),
    Mistake(
        "rotary-no-place",
        "rotary-float32",
        "queries start at 0",
        with_input(2, lambda p: np.broadcast_to(np.arange(p.shape[1]), p.shape), around(_without_place)),
        hidden_by="queries start at 0",
        answer="'place' is the same in every row",
    ),
    Mistake("rotary-halves", "rotary-partial", "halves rotate, not pairs", options(rotate=_rotate_halves)),
    Mistake("rotary-base", "rotary-partial", "the base is 500000", options(base=500000.0)),
    Mistake("alibi-first-slope", "alibi", "the first slope is 1", options(first=0)),
    Mistake("t5-sign", "relative-t5", "the distance is query minus key", options(sign=-1)),
    Mistake("shaw-off-by-one", "relative-shaw", "relative positions are off by one", options(shift=1)),
)
