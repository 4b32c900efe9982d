"""Attention written by hand: scores by a network, masks, windows, float32 softmax, linear attention, pooling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import (
    Params,
    causal,
    draw_input,
    draw_valid,
    flip,
    linear,
    merge_heads,
    split_heads,
)
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L = torch.nn.Linear


def _additive_torch(m: Any, query: Any, memory: Any, valid: Any) -> Any:
    scores = m.score(torch.tanh(m.query(query)[:, None] + m.memory(memory)))[..., 0]
    weights = scores.masked_fill(~valid, -torch.inf).softmax(-1)
    return torch.einsum("bs,bsd->bd", weights, memory), weights


def _additive(
    params: Params, query: Any, memory: Any, valid: Any, *, hidden: Callable[[Any, Any], Any] = jnp.add
) -> Any:
    mixed = jnp.tanh(hidden(linear(params, "query", query)[:, None], linear(params, "memory", memory)))
    scores = jnp.where(valid, linear(params, "score", mixed)[..., 0], -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    return jnp.einsum("bs,bsd->bd", weights, memory), weights


def _draw_additive(rng: np.random.Generator) -> Drawn:
    batch, steps, size, width, hidden = sizes(rng, 5, 2, 9)
    with seeded(rng):
        module = Calls(_additive_torch, query=L(width, hidden), memory=L(size, hidden), score=L(hidden, 1))
    inputs = (draw_input(rng, batch, width), draw_input(rng, batch, steps, size), draw_valid(rng, batch, steps))
    return Drawn(_additive, module, inputs, {"output_names": ("context", "weights")})


def _luong_torch(m: Any, state: Any, memory: Any, valid: Any) -> Any:
    key = m.general(memory)
    scores = torch.bmm(key, state[..., None])[..., 0].masked_fill(~valid, -1e9)
    context = torch.bmm(scores.softmax(-1)[:, None], memory)[:, 0]
    return torch.tanh(m.mix(torch.cat([context, state], -1)))


def _luong(params: Params, state: Any, memory: Any, valid: Any, *, swapped: bool = False) -> Any:
    scores = jnp.einsum("bsd,bd->bs", linear(params, "general", memory), state)
    weights = jax.nn.softmax(jnp.where(valid, scores, -1e9), axis=-1)
    context = jnp.einsum("bs,bsd->bd", weights, memory)
    parts = [state, context] if swapped else [context, state]
    return jnp.tanh(linear(params, "mix", jnp.concatenate(parts, -1)))


def _draw_luong(rng: np.random.Generator) -> Drawn:
    batch, steps, size, out = sizes(rng, 4, 2, 9)
    with seeded(rng):
        module = Calls(_luong_torch, general=L(size, size, bias=False), mix=L(2 * size, out))
    unkind = ("quantised", "small", "zeros")
    inputs = (draw_input(rng, batch, size), draw_input(rng, batch, steps, size, unkind=unkind))
    return Drawn(_luong, module, (*inputs, draw_valid(rng, batch, steps)))


def _eager_torch(m: Any, x: Any, mask: Any) -> Any:
    """As models of Hugging Face write it: an additive mask, and the softmax in float32."""
    q, k, v = (f(x).unflatten(-1, (m.heads, -1)).transpose(1, 2) for f in (m.q, m.k, m.v))
    scores = q @ k.transpose(2, 3) * m.scale + mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    return m.o((weights @ v).transpose(1, 2).flatten(2))


def _float32_softmax(scores: Any) -> Any:
    return jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(scores.dtype)


def _bfloat16_softmax(scores: Any) -> Any:
    return jax.nn.softmax(scores.astype(jnp.bfloat16), axis=-1).astype(scores.dtype)


def _eager(params: Params, x: Any, mask: Any, *, heads: int, softmax: Callable[[Any], Any]) -> Any:
    q, k, v = (split_heads(linear(params, name, x), heads) for name in "qkv")
    scores = q @ k.transpose(0, 1, 3, 2) * (x.shape[-1] // heads) ** -0.5 + mask
    return linear(params, "o", merge_heads(softmax(scores) @ v))


def _draw_eager(rng: np.random.Generator, softmax: Callable[[Any], Any]) -> Drawn:
    batch, steps, heads, size = sizes(rng, 4, 2, 7)
    width = heads * size
    with seeded(rng):
        parts = {name: L(width, width, bias=name in "qv") for name in "qkvo"}
        module = Calls(_eager_torch, **parts, heads=heads, scale=size**-0.5)
    valid = draw_valid(rng, batch, steps)[:, None, None, :] & np.tri(steps, dtype=bool)
    mask = np.where(valid, 0.0, -1e9)
    x = draw_input(rng, batch, steps, width)
    port = partial(_eager, heads=heads, softmax=softmax)
    return Drawn(port, module, (x, mask), {"wrt": (*(n for n, _ in module.named_parameters()), "x")})


def _linear_torch(m: Any, x: Any) -> Any:
    """Causal linear attention: sums so far of elu(k) + 1 and of its products with v."""
    q, k, v = F.elu(m.q(x)) + 1, F.elu(m.k(x)) + 1, m.v(x)
    memory = torch.einsum("btd,bte->btde", k, v).cumsum(1)
    return torch.einsum("btd,btde->bte", q, memory) / (q * k.cumsum(1)).sum(-1, keepdim=True)


def _linear(params: Params, x: Any, *, feature: Callable[[Any], Any] = lambda z: jax.nn.elu(z) + 1) -> Any:
    q, k, v = feature(linear(params, "q", x)), feature(linear(params, "k", x)), linear(params, "v", x)

    def step(carry: tuple[Any, Any], now: tuple[Any, Any, Any]) -> tuple[tuple[Any, Any], Any]:
        q, k, v = now
        memory, total = carry[0] + k[:, :, None] * v[:, None], carry[1] + k
        return (memory, total), jnp.einsum("bd,bde->be", q, memory) / (q * total).sum(-1, keepdims=True)

    first = (jnp.zeros((*k[:, 0].shape, v.shape[-1]), v.dtype), jnp.zeros_like(k[:, 0]))
    _, out = jax.lax.scan(step, first, tuple(a.swapaxes(0, 1) for a in (q, k, v)))
    return out.swapaxes(0, 1)


def _draw_linear(rng: np.random.Generator) -> Drawn:
    batch, size, key, value, steps = sizes(rng, 5, 2, 9)
    with seeded(rng):
        module = Calls(_linear_torch, q=L(size, key), k=L(size, key), v=L(size, value))
    return Drawn(_linear, module, (draw_input(rng, batch, steps, size, unkind=("quantised", "small", "zeros")),))


def _cosine_torch(m: Any, q: Any, k: Any, v: Any) -> Any:
    scale = torch.clamp(m.scale, max=float(np.log(100))).exp()
    return (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale).softmax(-1) @ v


def _cosine(
    params: Params, q: Any, k: Any, v: Any, *, top: float = float(np.log(100)), inverse: Callable[[Any], Any] = jnp.exp
) -> Any:
    q, k = (a / jnp.linalg.norm(a, axis=-1, keepdims=True) for a in (q, k))
    return jax.nn.softmax(q @ k.swapaxes(-1, -2) * inverse(jnp.minimum(params["scale"], top)), axis=-1) @ v


def _draw_cosine(rng: np.random.Generator) -> Drawn:
    batch, heads, steps, length, size = sizes(rng, 5, 2, 7)
    scale = torch.tensor(np.log(10) + 0.5 * rng.normal(size=(heads, 1, 1)), dtype=torch.float32)
    module = Calls(_cosine_torch, scale=torch.nn.Parameter(scale))
    unkind = ("offset", "small", "large")
    return Drawn(
        _cosine, module, tuple(draw_input(rng, batch, heads, n, size, unkind=unkind) for n in (steps, length, length))
    )


def _window_torch(m: Any, x: Any) -> Any:
    q, k, v = m.qkv(x).chunk(3, -1)
    behind = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
    hidden = (behind < 0) | (behind >= m.window)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, torch.finfo(x.dtype).min)
    return scores.softmax(-1) @ v


def _window(params: Params, x: Any, *, window: int, edge: int = 0) -> Any:
    q, k, v = jnp.split(linear(params, "qkv", x), 3, axis=-1)
    steps = x.shape[1]
    seen = causal(steps) & ~causal(steps, -window - edge)
    scores = jnp.where(seen, q @ k.swapaxes(1, 2) / jnp.sqrt(q.shape[-1]), -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ v


def _draw_window(rng: np.random.Generator) -> Drawn:
    batch, size, window = sizes(rng, 3, 2, 6)
    steps = window + int(rng.integers(2, 9))
    with seeded(rng):
        module = Calls(_window_torch, qkv=L(size, 3 * size, bias=flip(rng)), window=window)
    return Drawn(partial(_window, window=window), module, (draw_input(rng, batch, steps, size),))


def _pool_torch(m: Any, x: Any, valid: Any) -> Any:
    weights = (x @ m.query / m.temperature).masked_fill(~valid, -torch.inf).softmax(1)
    return m.out((weights[..., None] * x).sum(1))


def _pool(params: Params, x: Any, valid: Any, *, temperature: float) -> Any:
    scores = jnp.einsum("btd,d->bt", x, params["query"]) / temperature
    weights = jax.nn.softmax(scores, axis=1, where=valid)
    return linear(params, "out", jnp.einsum("bt,btd->bd", weights, x))


def _draw_pool(rng: np.random.Generator) -> Drawn:
    batch, steps, size, out = sizes(rng, 4, 2, 12)
    temperature = float(rng.choice([0.5, 2.0, 4.0]))
    with seeded(rng):
        query = torch.nn.Parameter(torch.randn(size))
        module = Calls(_pool_torch, query=query, out=L(size, out), temperature=temperature)
    x = draw_input(rng, batch, steps, size)
    return Drawn(partial(_pool, temperature=temperature), module, (x, draw_valid(rng, batch, steps)))


PAIRS = (
    ModelPair("attention-additive", "Bahdanau attention with biases and a mask", _draw_additive),
    ModelPair("attention-luong", "Luong's general score and attentional state", _draw_luong),
    ModelPair(
        "attention-float32-plain", "softmax in float32 in torch only", partial(_draw_eager, softmax=jax.nn.softmax)
    ),
    ModelPair("attention-float32", "softmax in float32 on both sides", partial(_draw_eager, softmax=_float32_softmax)),
    ModelPair("attention-linear", "causal linear attention by cumsum against lax.scan", _draw_linear),
    ModelPair("attention-cosine", "cosine attention with a clamped learned scale", _draw_cosine),
    ModelPair("attention-window", "causal attention in a sliding window", _draw_window),
    ModelPair("attention-pool", "pooling by a learned query with a temperature", _draw_pool),
)
MISTAKES = (
    Mistake(
        "luong-swapped", "attention-luong", "state and context are joined in the other order", options(swapped=True)
    ),
    Mistake(
        "linear-relu",
        "attention-linear",
        "relu + 1 in place of elu + 1",
        options(feature=lambda z: jax.nn.relu(z) + 1),
    ),
    Mistake(
        "cosine-no-exp", "attention-cosine", "the learned scale is not exponentiated", options(inverse=lambda z: z)
    ),
    Mistake("additive-product", "attention-additive", "query and key are multiplied", options(hidden=jnp.multiply)),
    Mistake(
        "cosine-clamp",
        "attention-cosine",
        "the scale is clamped at 1000 in place of 100",
        options(top=float(np.log(1000))),
        hidden_by="no scale reaches its bound",
        answer="no number is beyond the upper bound of clamp",
    ),
    Mistake(
        "attention-narrow-softmax",
        "attention-float32",
        "the softmax is bfloat16",
        options(softmax=_bfloat16_softmax),
    ),
    Mistake("pool-temperature", "attention-pool", "the temperature is 1", options(temperature=1.0)),
    Mistake("window-edge", "attention-window", "the window is one step longer", options(edge=1)),
)
