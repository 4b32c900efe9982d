"""Norms of vectors: RMSNorm, local response norm, cosine similarity, vectors of length one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import torch

from crosscheck.models.building_blocks import Params
from crosscheck.models.changing import around, options
from crosscheck.models.drawing import Rng, made, numbers, one_of, rarely, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F = torch.nn.functional


def _rms(params: Params, x: Any, *, layer: eqx.nn.RMSNorm) -> Any:
    layer = eqx.tree_at(lambda m: m.weight, layer, params["weight"])
    return jax.vmap(jax.vmap(layer))(x)


def _draw_rms(rng: Rng) -> Drawn:
    b, t, d = sizes(rng, 3)
    eps = one_of(rng, 1e-6, 1e-5)
    module = made(rng, lambda: torch.nn.RMSNorm(d, eps=eps), spread=0.3)
    layer = eqx.nn.RMSNorm(d, eps=eps, use_bias=False)
    return Drawn(partial(_rms, layer=layer), module, (numbers(rng, b, t, d),))


def _llama(params: Params, x: Any, *, wide: Callable[[Any], Any], eps: float = 1e-6, centre: bool = False) -> Any:
    kind, x = x.dtype, wide(x)
    x = x - x.mean(axis=-1, keepdims=True) if centre else x
    y = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)
    return params["weight"] * y.astype(kind)


def _torch_llama(m: Any, x: Any) -> Any:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return m.weight * wide.to(x.dtype)


def _draw_llama(rng: Rng, wide: Callable[[Any], Any]) -> Drawn:
    b, t, d = sizes(rng, 3)
    module = made(rng, lambda: Calls(_torch_llama, weight=torch.nn.Parameter(torch.ones(d))), spread=0.3)
    return Drawn(partial(_llama, wide=wide), module, (numbers(rng, b, t, d),))


def _response(params: Any, x: Any, *, size: int, how: tuple[float, float, float], divide: bool = True) -> Any:
    alpha, beta, k = how
    # torch's window of an even size reaches further back than forth.
    square = jnp.pad(x**2, ((0, 0), (size // 2, (size - 1) // 2), (0, 0)))
    total = sum(square[:, n : n + x.shape[1]] for n in range(size))
    return x / (k + alpha * total / (size if divide else 1)) ** beta


def _draw_response(rng: Rng) -> Drawn:
    b, c, length = sizes(rng, 3, low=3)
    size = one_of(rng, 2, 3, 4)
    how = (float(rng.uniform(0.1, 1)), 0.75, 1.0)
    forward = lambda m, x: F.local_response_norm(x, size, *how)
    return Drawn(partial(_response, size=size, how=how), Calls(forward), (numbers(rng, b, c, length),))


def _cosine(params: Any, a: Any, b: Any, *, axis: int = 1) -> Any:
    length = lambda x: jnp.maximum(jnp.linalg.norm(x, axis=axis), 1e-8)
    return (a * b).sum(axis=axis) / (length(a) * length(b))


def _draw_cosine(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2)
    shape = (b, d, d)
    close = numbers(rng, *shape)
    other = rng.normal(size=shape)
    other = rarely(rng, close + 1e-2 * other, other)
    return Drawn(_cosine, Calls(lambda m, a, b: F.cosine_similarity(a, b, dim=1)), (close, other))


def _normalize(params: Any, x: Any, *, power: int, axis: int) -> Any:
    return x / jnp.maximum(jnp.linalg.norm(x, ord=power, axis=axis, keepdims=True), 1e-12)


def _constant_length(port: Any, params: Any, x: Any) -> Any:
    return x * jax.lax.stop_gradient(port(params, x) / x)


def _draw_normalize(rng: Rng) -> Drawn:
    b, t, d = sizes(rng, 3)
    power, axis = one_of(rng, 1, 2), one_of(rng, 1, 2)
    forward = lambda m, x: F.normalize(x, p=power, dim=axis)
    x = numbers(rng, b, t, d, unkind=("small", "large", "offset"))
    return Drawn(partial(_normalize, power=power, axis=axis), Calls(forward), (x,))


PAIRS = (
    ModelPair("rms-norm", "RMSNorm in equinox", _draw_rms),
    ModelPair("llama-norm", "an RMSNorm in float32, and its plain port", partial(_draw_llama, wide=lambda x: x)),
    ModelPair(
        "llama-norm-mirrored", "an RMSNorm in float32 on both sides",
        partial(_draw_llama, wide=lambda x: x.astype(jnp.float32)),
    ),
    ModelPair("local-response-norm", "torch's local response norm", _draw_response),
    ModelPair("cosine-similarity", "the cosine between vectors, now and then close ones", _draw_cosine),
    ModelPair("normalize", "vectors of length one", _draw_normalize),
)  # fmt: skip

MISTAKES = (
    Mistake("llama-norm-eps", "llama-norm", "ε is 1e-5", options(eps=1e-5)),
    Mistake("llama-norm-centred", "llama-norm-mirrored", "the mean is subtracted", options(centre=True)),
    Mistake(
        "llama-norm-bfloat16", "llama-norm", "the norm is taken in bfloat16",
        options(wide=lambda x: x.astype(jnp.bfloat16)),
    ),
    Mistake("response-norm-sum", "local-response-norm", "the sum is not divided by the size", options(divide=False)),
    Mistake("normalize-constant", "normalize", "the length carries no gradient", around(_constant_length)),
    Mistake("cosine-axis", "cosine-similarity", "the vectors lie along the last axis", options(axis=2)),
)  # fmt: skip
