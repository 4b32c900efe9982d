"""Weights that are composed, shared or looked up: LoRA, weight norm, tied weights, tables; and what is predicted."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.utils.parametrizations import weight_norm

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import both, options, other_inputs, other_module, other_port, other_result
from crosscheck.models.drawing import GENTLE, Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

Linear = torch.nn.Linear


def _lora(params: Params, x: Any, *, scale: float) -> Any:
    return linear(params, "base", x) + scale * linear(params, "up", linear(params, "down", x))


def _draw_lora(rng: Rng) -> Drawn:
    b, d, out, rank = sizes(rng, 4)
    alpha = one_of(rng, 16, 32)
    forward = lambda m, x: m.base(x) + alpha / rank * m.up(m.down(x))
    parts = lambda: {"down": Linear(d, rank, bias=False), "up": Linear(rank, out, bias=False)}
    module = made(rng, lambda: Calls(forward, base=Linear(d, out), **parts()))
    return Drawn(partial(_lora, scale=alpha / rank), module, (numbers(rng, b, d),))


def _weight_norm(params: Params, x: Any, *, axis: int = 1) -> Any:
    length, direction = (params[f"parametrizations.weight.original{n}"] for n in range(2))
    weight = length * direction / jnp.linalg.norm(direction, axis=axis, keepdims=True)
    return x @ weight.T + params["bias"]


def _draw_weight_norm(rng: Rng) -> Drawn:
    b, d, out = sizes(rng, 3)
    module = made(rng, lambda: weight_norm(Linear(d, out)), spread=0.3)
    return Drawn(_weight_norm, module, (numbers(rng, b, d),))


def _tied(params: Params, x: Any) -> Any:
    w = params["encode.weight"]
    return jax.nn.sigmoid(x @ w.T + params["encode.bias"]) @ w + params["back"]


def _untied(params: Params, x: Any) -> Any:
    w = params["encode.weight"]
    return jax.nn.sigmoid(x @ w.T + params["encode.bias"]) @ jax.lax.stop_gradient(w) + params["back"]


def _draw_tied(rng: Rng) -> Drawn:
    b, d, h = sizes(rng, 3)
    forward = lambda m, x: torch.sigmoid(m.encode(x)) @ m.encode.weight + m.back
    module = made(rng, lambda: Calls(forward, encode=Linear(d, h), back=torch.nn.Parameter(torch.randn(d))))
    return Drawn(_tied, module, (numbers(rng, b, d, unkind=GENTLE),))


def _hashed(params: Params, tokens: Any, *, buckets: int, factor: int = 48271) -> Any:
    # JAX has 32 bits unless x64 is on, so the remainder is taken before the product.
    return params["table.weight"][(tokens % buckets) * (factor % buckets) % buckets]


def _hashed_overflow(params: Params, tokens: Any, *, buckets: int) -> Any:
    return params["table.weight"][(tokens * 48271) % buckets]


def _draw_hashed(rng: Rng) -> Drawn:
    b, t, d = sizes(rng, 3, low=3)
    buckets = one_of(rng, 5, 7, 11)  # a power of two would not show an overflow
    forward = lambda m, tokens: m.table(tokens * 48271 % buckets)
    module = made(rng, lambda: Calls(forward, table=torch.nn.Embedding(buckets, d)))
    return Drawn(partial(_hashed, buckets=buckets), module, (rng.integers(10**5, 10**6, (b, t)),))


def _bag(params: Params, tokens: Any, *, fill: int = 0, skip: bool = True) -> Any:
    real = (tokens != fill)[..., None] if skip else jnp.ones_like(tokens[..., None], dtype=bool)
    rows = jnp.where(real, params["weight"][tokens], 0)
    return rows.sum(axis=1) / jnp.maximum(real.sum(axis=1), 1)


def _draw_bag(rng: Rng) -> Drawn:
    b, t, d = sizes(rng, 3, low=3)
    module = made(rng, lambda: torch.nn.EmbeddingBag(11, d, mode="mean", padding_idx=0), spread=0.5)
    tokens = rng.integers(1, 11, (b, t))
    tokens[np.arange(t) >= rng.integers(1, t, (b, 1))] = 0
    return Drawn(_bag, module, (tokens,))


def _predict(params: Params, x: Any) -> Any:
    logits = linear(params, "head", x)
    return logits, jnp.argmax(logits, axis=-1)


def _draw_predict(rng: Rng) -> Drawn:
    b, d, classes = sizes(rng, 3)
    forward = lambda m, x: (m.head(x), m.head(x).argmax(dim=-1))
    return Drawn(_predict, made(rng, lambda: Calls(forward, head=Linear(d, classes))), (numbers(rng, b, d),))


PAIRS = (
    ModelPair("lora", "a linear layer with a low-rank addition", _draw_lora),
    ModelPair("weight-norm", "a linear layer under weight_norm", _draw_weight_norm),
    ModelPair("tied-autoencoder", "an autoencoder whose decoder is the encoder's transpose", _draw_tied),
    ModelPair("hash-embedding", "an embedding of hashed identifiers", _draw_hashed),
    ModelPair("embedding-bag", "the mean of embeddings without the padding", _draw_bag),
    ModelPair("prediction", "logits and the class that is predicted", _draw_predict),
)

MISTAKES = (
    Mistake("lora-scale", "lora", "the scale alpha / rank is missing", options(scale=1.0)),
    Mistake(
        "lora-scale-at-the-start", "lora", "the scale is missing, which the gradient shows while the addition is zero",
        both(other_module(lambda m: m.up.weight.zero_()), options(scale=1.0)),
    ),
    Mistake("weight-norm-axis", "weight-norm", "the norm runs over the outputs", options(axis=0)),
    Mistake("tied-gradient", "tied-autoencoder", "the decoder gives the tied weight no gradient", other_port(_untied)),
    Mistake("hash-overflow", "hash-embedding", "the product overflows 32 bits", other_port(_hashed_overflow)),
    Mistake("bag-padding", "embedding-bag", "the padding counts", options(skip=False)),
    Mistake(
        "bag-padding-unseen", "embedding-bag", "the padding counts, in inputs without any",
        both(other_inputs(lambda tokens: (np.maximum(tokens, 1),)), options(skip=False)),
        hidden_by="there is no padding token",
        answer="no index is the padding index 0",
    ),
    Mistake(
        "prediction-as-float", "prediction", "the predicted class is a floating-point number",
        other_result(lambda result: (result[0], result[1].astype(result[0].dtype))),
    ),
)  # fmt: skip
