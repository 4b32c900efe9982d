"""Transformer layers of torch.nn, mixtures of experts and cross attention to latents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import (
    Params,
    attend,
    causal,
    draw_input,
    draw_valid,
    exact_gelu,
    flip,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
)
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L, N, Sequential = torch.nn.Linear, torch.nn.LayerNorm, torch.nn.Sequential
ACTIVATIONS = {"relu": jax.nn.relu, "gelu": exact_gelu}
tanh_gelu = partial(jax.nn.gelu, approximate=True)


def _attention(params: Params, name: str, x: Any, memory: Any, heads: int, allowed: Any) -> Any:
    weights = jnp.split(params[f"{name}.in_proj_weight"], 3)
    biases = jnp.split(params[f"{name}.in_proj_bias"], 3)
    q, k, v = (split_heads(a @ w.T + b, heads) for a, w, b in zip((x, memory, memory), weights, biases, strict=True))
    return linear(params, f"{name}.out_proj", merge_heads(attend(q, k, v, allowed)))


def _feed_forward(params: Params, x: Any, activation: Callable[[Any], Any]) -> Any:
    return linear(params, "linear2", activation(linear(params, "linear1", x)))


def _encoder(
    params: Params,
    x: Any,
    padded: Any,
    *,
    heads: int,
    first: bool,
    activation: Callable[[Any], Any],
    norm: Callable[..., Any] = layer_norm,
) -> Any:
    allowed = ~padded[:, None, None, :]
    if first:
        normal = norm(params, "norm1", x)
        x = x + _attention(params, "self_attn", normal, normal, heads, allowed)
        return x + _feed_forward(params, norm(params, "norm2", x), activation)
    x = norm(params, "norm1", x + _attention(params, "self_attn", x, x, heads, allowed))
    return norm(params, "norm2", x + _feed_forward(params, x, activation))


def _draw_encoder(rng: np.random.Generator) -> Drawn:
    batch, heads, steps, size = sizes(rng, 4, 2, 6)
    first, activation = flip(rng), str(rng.choice(list(ACTIVATIONS)))
    width = heads * size
    with seeded(rng):
        module = torch.nn.TransformerEncoderLayer(
            width, heads, int(rng.integers(5, 20)), 0.0, activation, batch_first=True, norm_first=first
        )
    inputs = (draw_input(rng, batch, steps, width), ~draw_valid(rng, batch, steps))
    port = partial(_encoder, heads=heads, first=first, activation=ACTIVATIONS[activation])
    return Drawn(port, module, inputs, {"torch_fn": lambda m, x, padded: m(x, src_key_padding_mask=padded)})


def _decoder(
    params: Params,
    x: Any,
    memory: Any,
    *,
    heads: int,
    first: bool,
    activation: Callable[[Any], Any],
    names: tuple[str, str] = ("self_attn", "multihead_attn"),
) -> Any:
    allowed = causal(x.shape[1])
    norm, once = partial(layer_norm, params), partial(_attention, params, heads=heads)
    if first:
        normal = norm("norm1", x)
        x = x + once(names[0], normal, normal, allowed=allowed)
        x = x + once(names[1], norm("norm2", x), memory, allowed=None)
        return x + _feed_forward(params, norm("norm3", x), activation)
    x = norm("norm1", x + once(names[0], x, x, allowed=allowed))
    x = norm("norm2", x + once(names[1], x, memory, allowed=None))
    return norm("norm3", x + _feed_forward(params, x, activation))


def _decoder_torch(m: Any, x: Any, memory: Any) -> Any:
    mask = torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
    return m(x, memory, tgt_mask=mask, tgt_is_causal=True)


def _draw_decoder(rng: np.random.Generator) -> Drawn:
    batch, heads, steps, size, length = sizes(rng, 5, 2, 6)
    first, activation = flip(rng), str(rng.choice(list(ACTIVATIONS)))
    width = heads * size
    with seeded(rng):
        module = torch.nn.TransformerDecoderLayer(width, heads, 7, 0.0, activation, batch_first=True, norm_first=first)
    inputs = (draw_input(rng, batch, steps, width), draw_input(rng, batch, length, width))
    port = partial(_decoder, heads=heads, first=first, activation=ACTIVATIONS[activation])
    return Drawn(port, module, inputs, {"torch_fn": _decoder_torch})


def _experts_torch(m: Any, x: Any) -> Any:
    """As in Mixtral: each token goes through the best few experts, whose probabilities sum to 1."""
    flat = x.flatten(0, 1)
    weights, chosen = m.router(flat).softmax(-1).topk(m.count, -1)
    weights = weights / weights.sum(-1, keepdim=True)
    out = torch.zeros_like(flat)
    for number, expert in enumerate(m.experts):
        token, place = torch.where(chosen == number)
        out = out.index_add(0, token, expert(flat[token]) * weights[token, place, None])
    return out.view_as(x), chosen


def _experts(
    params: Params,
    x: Any,
    *,
    count: int,
    experts: int,
    normal: Callable[[Any], Any] = lambda weights: weights / weights.sum(-1, keepdims=True),
    used: int | None = None,
) -> Any:
    """All experts run on all tokens, and most of the weights are zero."""
    flat = x.reshape(-1, x.shape[-1])
    weights, chosen = jax.lax.top_k(jax.nn.softmax(linear(params, "router", flat), axis=-1), count)
    dense = (jax.nn.one_hot(chosen, experts, dtype=x.dtype) * normal(weights)[..., None]).sum(1)

    def expert(name: str) -> Any:
        return linear(params, f"{name}.2", jax.nn.silu(linear(params, f"{name}.0", flat)))

    outs = jnp.stack([expert(f"experts.{number}") for number in range(used or experts)], 1)
    return jnp.einsum("ne,ned->nd", dense[:, : used or experts], outs).reshape(x.shape), chosen


def _draw_experts(rng: np.random.Generator) -> Drawn:
    batch, steps, width, experts = sizes(rng, 4, 3, 7)
    count = int(rng.integers(1, experts - 1))
    with seeded(rng):
        each = (Sequential(L(width, 5), torch.nn.SiLU(), L(5, width)) for _ in range(experts))
        module = Calls(
            _experts_torch, router=L(width, experts, bias=False), experts=torch.nn.ModuleList(each), count=count
        )
    x = draw_input(rng, batch, steps, width, unkind=("small",))
    return Drawn(partial(_experts, count=count, experts=experts), module, (x,), {"output_names": ("out", "chosen")})


def _never_last(drawn: Drawn) -> Drawn:
    """Let no token choose the last expert: inputs are positive, and its router weights are very negative."""
    module: Any = copy.deepcopy(drawn.module)
    with torch.no_grad():
        module.router.weight[-1] = -30.0
    return replace(drawn, module=module, inputs=(np.abs(drawn.inputs[0]) + 0.5,))


def _without_last(drawn: Drawn) -> Drawn:
    drawn = _never_last(drawn)
    return options(used=len(drawn.params["router.weight"]) - 1)(drawn)


def _latents_torch(m: Any, x: Any, padded: Any) -> Any:
    latents = m.latents.expand(len(x), -1, -1)
    memory = m.norm_x(x)
    out, _ = m.cross(m.norm_l(latents), memory, memory, key_padding_mask=padded)
    latents = latents + out
    return latents + m.mlp(latents)


def _latents(params: Params, x: Any, padded: Any, *, heads: int, skip: bool = True) -> Any:
    memory, first = layer_norm(params, "norm_x", x), params["latents"][None]
    first = jnp.broadcast_to(first, (len(x), *first.shape[1:]))
    out = _attention(params, "cross", layer_norm(params, "norm_l", first), memory, heads, ~padded[:, None, None, :])
    latents = first + out if skip else out
    hidden = exact_gelu(linear(params, "mlp.1", layer_norm(params, "mlp.0", latents)))
    return latents + linear(params, "mlp.3", hidden)


def _draw_latents(rng: np.random.Generator) -> Drawn:
    batch, heads, steps, size, count = sizes(rng, 5, 2, 8)
    width = heads * size
    with seeded(rng):
        cross = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        mlp = Sequential(N(width), L(width, 7), torch.nn.GELU(), L(7, width))
        latents = torch.nn.Parameter(torch.randn(count, width))
        parts = {"latents": latents, "norm_x": N(width), "norm_l": N(width), "cross": cross, "mlp": mlp}
        module = Calls(_latents_torch, **parts)
    inputs = (draw_input(rng, batch, steps, width), ~draw_valid(rng, batch, steps))
    return Drawn(partial(_latents, heads=heads), module, inputs)


PAIRS = (
    ModelPair("encoder-layer", "torch.nn.TransformerEncoderLayer, norm first or last", _draw_encoder),
    ModelPair("decoder-layer", "torch.nn.TransformerDecoderLayer, norm first or last", _draw_decoder),
    ModelPair(
        "mixture-of-experts", "experts that a router chooses, token by token, against all experts", _draw_experts
    ),
    ModelPair("perceiver", "latents that attend to padded inputs", _draw_latents),
)
MISTAKES = (
    Mistake(
        "encoder-ddof",
        "encoder-layer",
        "the variance of LayerNorm is unbiased",
        options(
            norm=lambda p, n, x: (
                (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-5) * p[n + ".weight"]
                + p[n + ".bias"]
            )
        ),
    ),
    Mistake("encoder-eps", "encoder-layer", "eps is 1e-6", options(norm=partial(layer_norm, eps=1e-6))),
    Mistake("encoder-silu", "encoder-layer", "SiLU in place of the activation", options(activation=jax.nn.silu)),
    Mistake(
        "decoder-swapped-attention",
        "decoder-layer",
        "the two attentions have each other's weights",
        options(names=("multihead_attn", "self_attn")),
    ),
    Mistake(
        "experts-not-normal",
        "mixture-of-experts",
        "the weights of the chosen do not sum to 1",
        options(normal=lambda w: w),
    ),
    Mistake(
        "experts-without-last",
        "mixture-of-experts",
        "the last expert is left out",
        _without_last,
        hidden_by="no token chooses the last expert",
        answer="grad experts.",
    ),
    Mistake("perceiver-no-skip", "perceiver", "the latents are not added again", options(skip=False)),
)
