"""Attention from libraries: torch.nn and torch.nn.functional against plain JAX, flax and jax.nn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch.nn import functional as F

from crosscheck.models.building_blocks import (
    Params,
    attend,
    causal,
    draw_input,
    draw_valid,
    flip,
    linear,
    merge_heads,
    split_heads,
)
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Drawn, Mistake, ModelPair, seeded


def _root(size: int) -> float:
    return size**-0.5


def _mha(
    params: Params,
    query: Any,
    memory: Any,
    padded: Any,
    *,
    heads: int,
    see: Callable[[Any], Any] = lambda padded: ~padded[:, None, None, :],
    scale: Callable[[int], float] = _root,
    axis: int = -1,
    merge: Callable[[Any], Any] = merge_heads,
) -> tuple[Any, Any]:
    weights = jnp.split(params["in_proj_weight"], 3)
    biases: list[Any] = [0.0] * 3
    if "in_proj_bias" in params:
        biases = jnp.split(params["in_proj_bias"], 3)
    sources = (query, memory, memory)
    q, k, v = (split_heads(x @ w.T + b, heads) for x, w, b in zip(sources, weights, biases, strict=True))
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k) * scale(q.shape[-1])
    weight = jax.nn.softmax(jnp.where(see(padded), scores, -jnp.inf), axis=axis)
    return linear(params, "out_proj", merge(weight @ v)), weight.mean(1)


def _draw_mha(rng: np.random.Generator) -> Drawn:
    heads, steps, length, size = sizes(rng, 4, 2, 6)
    batch = int(rng.integers(2, 5))
    with seeded(rng):
        module = torch.nn.MultiheadAttention(heads * size, heads, bias=flip(rng, 0.7), batch_first=True)
    query, memory = (draw_input(rng, batch, n, heads * size) for n in (steps, length))
    padded = ~draw_valid(rng, batch, length)
    return Drawn(
        partial(_mha, heads=heads),
        module,
        (query, memory, padded),
        {"torch_fn": lambda m, q, k, p: m(q, k, k, key_padding_mask=p), "output_names": ("out", "weights")},
    )


def _wide_mha(params: Params, query: Any, key: Any, value: Any, *, heads: int, zero: bool) -> Any:
    """Queries, keys and values have their own widths, time comes first, and there may be a key of zeros."""
    biases = jnp.split(params["in_proj_bias"], 3)
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    q, k, v = (
        split_heads((x @ params[name].T + b).transpose(1, 0, 2), heads)
        for x, name, b in zip((query, key, value), names, biases, strict=True)
    )
    if "bias_k" in params:
        k, v = (
            jnp.concatenate([a, jnp.broadcast_to(split_heads(params[name], heads), a[:, :, :1].shape)], 2)
            for a, name in ((k, "bias_k"), (v, "bias_v"))
        )
    if zero:
        k, v = (jnp.pad(a, ((0, 0), (0, 0), (0, 1), (0, 0))) for a in (k, v))
    return linear(params, "out_proj", merge_heads(attend(q, k, v))).transpose(1, 0, 2)


def _draw_wide_mha(rng: np.random.Generator) -> Drawn:
    heads, steps, length, size, batch = sizes(rng, 5, 2, 6)
    kdim, vdim = sizes(rng, 2, 3, 9)
    zero = flip(rng)
    with seeded(rng):
        module = torch.nn.MultiheadAttention(
            heads * size, heads, kdim=kdim, vdim=vdim, add_bias_kv=flip(rng), add_zero_attn=zero
        )
    shapes = ((steps, batch, heads * size), (length, batch, kdim), (length, batch, vdim))
    inputs = tuple(draw_input(rng, *shape) for shape in shapes)
    port = partial(_wide_mha, heads=heads, zero=zero)
    return Drawn(port, module, inputs, {"torch_fn": lambda m, q, k, v: m(q, k, v, need_weights=False)[0]})


def _flax_weights(params: Params, heads: int) -> dict[str, dict[str, Any]]:
    """Return torch's weights by the names and in the shapes of flax: `[D, H, D / H]`, and `[H, D / H, D]` for out."""
    weights, biases = jnp.split(params["in_proj_weight"], 3), jnp.split(params["in_proj_bias"], 3)
    width = weights[0].shape[0]
    tree = {
        name: {"kernel": w.T.reshape(width, heads, -1), "bias": b.reshape(heads, -1)}
        for name, w, b in zip(("query", "key", "value"), weights, biases, strict=True)
    }
    out = params["out_proj.weight"].T.reshape(heads, -1, width)
    return {**tree, "out": {"kernel": out, "bias": params["out_proj.bias"]}}


def _linen(params: Params, x: Any, padded: Any, *, heads: int, late: int = 0) -> Any:
    layer = nn.MultiHeadDotProductAttention(num_heads=heads, qkv_features=x.shape[-1])
    mask = ~padded[:, None, None, :] & causal(x.shape[1], late)
    return layer.apply({"params": _flax_weights(params, heads)}, x, mask=mask)


def _nnx(params: Params, x: Any, padded: Any, *, heads: int) -> Any:
    layer = nnx.MultiHeadAttention(heads, x.shape[-1], decode=False, rngs=nnx.Rngs(0))
    for name, weights in _flax_weights(params, heads).items():
        part = getattr(layer, name)
        part.kernel, part.bias = nnx.Param(weights["kernel"]), nnx.Param(weights["bias"])
    return layer(x, mask=~padded[:, None, None, :] & causal(x.shape[1]))


def _draw_flax(rng: np.random.Generator, port: Callable[..., Any]) -> Drawn:
    heads, steps, size, batch = sizes(rng, 4, 2, 6)
    with seeded(rng):
        module = torch.nn.MultiheadAttention(heads * size, heads, batch_first=True)
        torch.nn.init.normal_(module.in_proj_bias)

    def forward(m: Any, x: Any, padded: Any) -> Any:
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return m(x, x, x, key_padding_mask=padded, attn_mask=later, need_weights=False)[0]

    x, padded = draw_input(rng, batch, steps, heads * size), ~draw_valid(rng, batch, steps)
    return Drawn(partial(port, heads=heads), module, (x, padded), {"torch_fn": forward})


class _Scaled(torch.nn.Module):
    """Only the product, `[B, H, T, D]`, with a learned additive bias, a causal mask, or neither."""

    def __init__(self, shape: tuple[int, int], kind: str, scale: float | None, groups: bool) -> None:
        super().__init__()
        self.kind, self.scale, self.groups = kind, scale, groups
        if kind == "bias":
            self.bias = torch.nn.Parameter(torch.randn(shape))

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        mask = self.bias if self.kind == "bias" else None
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=self.kind == "causal", scale=self.scale, enable_gqa=self.groups
        )


def _jax_nn(params: Params, q: Any, k: Any, v: Any, *, kind: str, scale: float | None) -> Any:
    q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    bias = params["bias"][None, None] if kind == "bias" else None
    out = jax.nn.dot_product_attention(q, k, v, bias, is_causal=kind == "causal", scale=scale)
    return out.transpose(0, 2, 1, 3)


def _plain(params: Params, q: Any, k: Any, v: Any, *, kind: str, scale: float | None, groups: Any = jnp.repeat) -> Any:
    """Each head of k and v serves as many heads of q as there are."""
    share = q.shape[1] // k.shape[1]
    k, v = (groups(a, share, axis=1) for a in (k, v))
    allowed = causal(q.shape[2]) if kind == "causal" else None
    return attend(q, k, v, allowed, scale, params["bias"] if kind == "bias" else 0.0)


def _draw_scaled(rng: np.random.Generator, port: Callable[..., Any], grouped: bool) -> Drawn:
    heads, steps, size, length, batch = sizes(rng, 5, 2, 7)
    kind = str(rng.choice(["bias", "causal", "none"]))
    length = steps if kind == "causal" else length
    share = int(rng.integers(2, 4)) if grouped else 1
    scale = float(rng.uniform(0.2, 2)) if flip(rng) else None
    with seeded(rng):
        module = _Scaled((steps, length), kind, scale, grouped)
    rows = ((heads * share, steps), (heads, length), (heads, length))
    inputs = tuple(draw_input(rng, batch, n, t, size, unkind=("quantised", "small")) for n, t in rows)
    return Drawn(partial(port, kind=kind, scale=scale), module, inputs)


def _tiled(a: Any, share: int, axis: int) -> Any:
    return jnp.tile(a, (1, share, 1, 1))


PAIRS = (
    ModelPair("mha-plain", "torch.nn.MultiheadAttention with padding against plain jnp", _draw_mha),
    ModelPair("mha-wide", "torch.nn.MultiheadAttention with own widths and extra keys", _draw_wide_mha),
    ModelPair("mha-linen", "causal self-attention against flax.linen", partial(_draw_flax, port=_linen)),
    ModelPair("mha-nnx", "causal self-attention against flax.nnx", partial(_draw_flax, port=_nnx)),
    ModelPair("sdpa-jax-nn", "F.sdpa against jax.nn", partial(_draw_scaled, port=_jax_nn, grouped=False)),
    ModelPair("sdpa-grouped", "grouped-query F.sdpa", partial(_draw_scaled, port=_plain, grouped=True)),
)
MISTAKES = (
    Mistake("mha-no-root", "mha-plain", "scores are divided by D, not by its root", options(scale=lambda d: 1 / d)),
    Mistake("mha-softmax-over-heads", "mha-plain", "the softmax runs over the heads", options(axis=1)),
    Mistake("mha-mask-polarity", "mha-plain", "True means valid", options(see=lambda padded: padded[:, None, None, :])),
    Mistake(
        "mha-heads-not-transposed",
        "mha-plain",
        "heads are merged without a transpose",
        options(merge=lambda x: x.reshape(x.shape[0], x.shape[2], -1)),
    ),
    Mistake(
        "mha-no-padding",
        "mha-plain",
        "the padding mask is ignored",
        with_input(2, np.zeros_like, options(see=lambda padded: ~jnp.zeros_like(padded)[:, None, None, :])),
        hidden_by="no position is padded",
        answer="every number of 'padded' is False",
    ),
    Mistake("mha-causal-late", "mha-linen", "the mask lets each position see the next one", options(late=1)),
    Mistake("sdpa-tiled-heads", "sdpa-grouped", "heads of keys are tiled, not repeated", options(groups=_tiled)),
)
