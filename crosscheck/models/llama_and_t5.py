"""Small Llama and T5 blocks with the casts to float32 that Hugging Face writes, and ports with and without them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import Params, attend, causal, draw_input, flip, linear, merge_heads, split_heads
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded
from crosscheck.models.positions import t5_buckets, t5_buckets_torch

L = torch.nn.Linear


class _RMSNorm(torch.nn.Module):
    """HF Llama's: the mean square and the quotient are float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(1 + 0.2 * torch.randn(width))
        self.eps = eps

    def forward(self, x: Any) -> Any:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class _T5Norm(_RMSNorm):
    """HF T5's: only the mean square is float32."""

    def forward(self, x: Any) -> Any:
        return self.weight * (x * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + self.eps))


def _rms(params: Params, name: str, x: Any, *, eps: float, dtype: Any = None) -> Any:
    wide = x.astype(dtype or x.dtype)
    wide = wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + eps)
    return params[f"{name}.weight"] * wide.astype(x.dtype)


def _rms_float32(params: Params, name: str, x: Any, *, eps: float) -> Any:
    return _rms(params, name, x, eps=eps, dtype=jnp.float32)


def _rms_bfloat16(params: Params, name: str, x: Any, *, eps: float) -> Any:
    return _rms(params, name, x, eps=eps, dtype=jnp.bfloat16)


def _llama_torch(m: Any, x: Any) -> Any:
    steps = torch.arange(x.shape[1]).float()
    angles = torch.outer(steps, m.frequencies.float()).repeat(1, 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    def turned(a: Any) -> Any:
        first, second = a.chunk(2, -1)
        return a * cos + torch.cat([-second, first], -1) * sin

    normal = m.norm1(x)
    q, k, v = (f(normal).unflatten(-1, (-1, m.size)).transpose(1, 2) for f in (m.q, m.k, m.v))
    share = q.shape[1] // k.shape[1]
    k, v = turned(k).repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    scores = turned(q) @ k.mT * m.size**-0.5 + torch.full(angles.shape[:1] * 2, -1e9, dtype=x.dtype).triu(1)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype)
    x = x + m.o((weights @ v).transpose(1, 2).flatten(2))
    normal = m.norm2(x)
    return m.norm3(x + m.down(F.silu(m.gate(normal)) * m.up(normal)))


def _llama(
    params: Params,
    x: Any,
    *,
    size: int,
    frequencies: Any,
    norm: Callable[..., Any],
    eps: float,
    share: Callable[..., Any] = jnp.repeat,
    gate: Callable[[Any, Any], Any] = lambda gate, up: jax.nn.silu(gate) * up,
) -> Any:
    angles = jnp.arange(x.shape[1], dtype=x.dtype)[:, None] * frequencies
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)

    def turned(a: Any) -> Any:
        first, second = jnp.split(a, 2, axis=-1)
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def heads(name: str, x: Any) -> Any:
        return split_heads(linear(params, name, x), len(params[f"{name}.weight"]) // size)

    rms = partial(norm, params, eps=eps)
    q, k, v = (heads(name, rms("norm1", x)) for name in "qkv")
    groups = q.shape[1] // k.shape[1]
    k, v = share(turned(k), groups, axis=1), share(v, groups, axis=1)
    x = x + linear(params, "o", merge_heads(attend(turned(q), k, v, causal(x.shape[1]))))
    normal = rms("norm2", x)
    x = x + linear(params, "down", gate(linear(params, "gate", normal), linear(params, "up", normal)))
    return rms("norm3", x)


def _draw_llama(rng: np.random.Generator, norm: Callable[..., Any]) -> Drawn:
    """The frequencies are a float32 buffer. The port has the same numbers."""
    batch, kv_heads, half, steps = sizes(rng, 4, 2, 5)
    share, size, hidden = int(rng.integers(2, 4)), 2 * half, int(rng.integers(5, 12))
    heads = kv_heads * share
    width, eps = heads * size, float(rng.choice([1e-5, 1e-6]))
    frequencies = (10000 ** (-np.arange(half) / half)).astype(np.float32)
    counts = {"q": heads, "k": kv_heads, "v": kv_heads}
    with seeded(rng):
        layers = {name: L(width, n * size, bias=False) for name, n in counts.items()}
        layers |= {"o": L(width, width, bias=False), "down": L(hidden, width, bias=False)}
        layers |= {name: L(width, hidden, bias=False) for name in ("gate", "up")}
        norms = {f"norm{n}": _RMSNorm(width, eps) for n in (1, 2, 3)}
        module = Calls(_llama_torch, **layers, **norms, size=size)
    module.register_buffer("frequencies", torch.tensor(frequencies))
    x = draw_input(rng, batch, steps, width)
    return Drawn(partial(_llama, size=size, frequencies=frequencies, norm=norm, eps=eps), module, (x,))


def _tiled(a: Any, groups: int, axis: int) -> Any:
    return jnp.concatenate([a] * groups, axis=axis)


def _t5_torch(m: Any, ids: Any) -> Any:
    x = m.shared(ids)
    place = torch.arange(ids.shape[1])
    distance = place - place[:, None]
    bias = m.bias(t5_buckets_torch(distance, m.both, m.bias.num_embeddings, 11)).permute(2, 0, 1)
    if not m.both:
        bias = bias.masked_fill(distance > 0, torch.finfo(x.dtype).min)
    normal = m.norm1(x)
    q, k, v = (f(normal).unflatten(-1, (m.bias.embedding_dim, -1)).transpose(1, 2) for f in (m.q, m.k, m.v))
    weights = F.softmax((q @ k.mT + bias).float(), dim=-1).type_as(q)
    x = x + m.o((weights @ v).transpose(1, 2).flatten(2))
    x = x + m.wo(F.gelu(m.wi_0(m.norm2(x)), approximate="tanh") * m.wi_1(m.norm2(x)))
    return m.norm3(x) * x.shape[-1] ** -0.5 @ m.shared.weight.T


def _t5(
    params: Params,
    ids: Any,
    *,
    both: bool,
    heads: int,
    eps: float = 1e-6,
    scale: Callable[[int], float] = lambda size: 1.0,
    far: int = 11,
    tied: Callable[[int], float] = lambda width: width**-0.5,
) -> Any:
    x, rms = params["shared.weight"][ids], partial(_rms, params, eps=eps)
    distance = np.arange(ids.shape[1]) - np.arange(ids.shape[1])[:, None]
    table = params["bias.weight"]
    bias = table[t5_buckets(distance, both, len(table), far)].transpose(2, 0, 1)
    q, k, v = (split_heads(linear(params, name, rms("norm1", x)), heads) for name in "qkv")
    allowed = None if both else causal(ids.shape[1])
    x = x + linear(params, "o", merge_heads(attend(q, k, v, allowed, scale(q.shape[-1]), bias)))
    normal = rms("norm2", x)
    x = x + linear(params, "wo", jax.nn.gelu(linear(params, "wi_0", normal)) * linear(params, "wi_1", normal))
    return rms("norm3", x) * tied(x.shape[-1]) @ params["shared.weight"].T


def _draw_t5(rng: np.random.Generator) -> Drawn:
    batch, heads, size, words = sizes(rng, 4, 2, 9)
    width, both, hidden = heads * size, flip(rng), int(rng.integers(5, 12))
    with seeded(rng):
        layers = {name: L(width, width, bias=False) for name in "qkvo"}
        layers |= {name: L(width, hidden, bias=False) for name in ("wi_0", "wi_1")}
        norms = {f"norm{n}": _T5Norm(width, 1e-6) for n in (1, 2, 3)}
        tables = {"shared": torch.nn.Embedding(words, width), "bias": torch.nn.Embedding(8, heads)}
        module = Calls(_t5_torch, **layers, **norms, **tables, wo=L(hidden, width, bias=False), both=both)
    ids = rng.integers(0, words, (batch, int(rng.integers(10, 15))))
    return Drawn(partial(_t5, both=both, heads=heads), module, (ids,))


PAIRS = (
    ModelPair(
        "llama-plain", "a block of HF Llama, whose norms and softmax are float32", partial(_draw_llama, norm=_rms)
    ),
    ModelPair("llama-mirrored", "the same, float32 in the port's norms too", partial(_draw_llama, norm=_rms_float32)),
    ModelPair("t5", "a block of HF T5 with relative positions and tied output", _draw_t5),
)
MISTAKES = (
    Mistake("llama-eps", "llama-plain", "eps is 1e-3", options(eps=1e-3)),
    Mistake("llama-gate-up", "llama-plain", "gate and up are swapped", options(gate=lambda g, u: g * jax.nn.silu(u))),
    Mistake("llama-tiled-heads", "llama-mirrored", "key heads are tiled", options(share=_tiled)),
    Mistake("llama-narrow-norm", "llama-mirrored", "the norms are bfloat16", options(norm=_rms_bfloat16)),
    Mistake("t5-scaled", "t5", "scores are divided by the root of D", options(scale=lambda size: size**-0.5)),
    Mistake("t5-output-scale", "t5", "the tied output is not scaled", options(tied=lambda width: 1.0)),
    Mistake(
        "t5-far",
        "t5",
        "far positions count from 128",
        with_input(0, lambda ids: ids[:, :2], options(far=128)),
        hidden_by="the sequence is too short for far positions",
        answer="no number is beyond the upper bound of clamp",
    ),
)
