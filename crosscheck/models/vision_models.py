"""Vision models of small blocks: ViT, Swin's shifted windows, MLP-Mixer and gMLP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import (
    Params,
    attend,
    draw_input,
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

L, N = torch.nn.Linear, torch.nn.LayerNorm


def _vit_torch(m: Any, image: Any) -> Any:
    patches = m.patch(image).flatten(2).mT
    x = torch.cat([m.token.expand(len(image), -1, -1), patches], 1) + m.positions
    q, k, v = (a.unflatten(-1, (m.heads, -1)).transpose(1, 2) for a in m.qkv(m.norm1(x)).chunk(3, -1))
    x = x + m.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    x = x + m.down(F.gelu(m.up(m.norm2(x))))
    return m.head(m.norm3(x)[:, 0])


def _patches(image: Any, size: int) -> Any:
    """Return `[B, C, H, W]` as `[B, N, C * size * size]`, in the order of a torch kernel."""
    batch, channels, height, width = image.shape
    blocks = image.reshape(batch, channels, height // size, size, width // size, size)
    return blocks.transpose(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)


def _patches_channels_last(image: Any, size: int) -> Any:
    batch, channels, height, width = image.shape
    blocks = image.reshape(batch, channels, height // size, size, width // size, size)
    return blocks.transpose(0, 2, 4, 3, 5, 1).reshape(batch, -1, channels * size * size)


def _vit(
    params: Params,
    image: Any,
    *,
    heads: int,
    patches: Callable[..., Any] = _patches,
    pool: Callable[[Any], Any] = lambda x: x[:, 0],
    token_first: bool = True,
) -> Any:
    kernel = params["patch.weight"]
    x = patches(image, kernel.shape[-1]) @ kernel.reshape(len(kernel), -1).T + params["patch.bias"]
    token = jnp.broadcast_to(params["token"], (len(image), 1, x.shape[-1]))
    x = jnp.concatenate([token, x] if token_first else [x, token], axis=1) + params["positions"]
    q, k, v = jnp.split(linear(params, "qkv", layer_norm(params, "norm1", x, 1e-6)), 3, axis=-1)
    x = x + linear(params, "proj", merge_heads(attend(*(split_heads(a, heads) for a in (q, k, v)))))
    x = x + linear(params, "down", exact_gelu(linear(params, "up", layer_norm(params, "norm2", x, 1e-6))))
    return linear(params, "head", pool(layer_norm(params, "norm3", x, 1e-6)))


def _draw_vit(rng: np.random.Generator) -> Drawn:
    batch, channels, rows, columns, heads = sizes(rng, 5, 2, 6)
    patch, width, out = int(rng.integers(2, 4)), heads * int(rng.integers(2, 5)), int(rng.integers(2, 9))
    with seeded(rng):
        layers = {"qkv": L(width, 3 * width), "proj": L(width, width), "up": L(width, 7), "down": L(7, width)}
        norms = {f"norm{n}": N(width, eps=1e-6) for n in (1, 2, 3)}
        token = torch.nn.Parameter(0.02 * torch.randn(1, 1, width))
        positions = torch.nn.Parameter(0.02 * torch.randn(1, rows * columns + 1, width))
        kernel = torch.nn.Conv2d(channels, width, patch, stride=patch)
        module = Calls(
            _vit_torch,
            **layers,
            **norms,
            token=token,
            positions=positions,
            patch=kernel,
            head=L(width, out),
            heads=heads,
        )
    image = draw_input(rng, batch, channels, rows * patch, columns * patch, unkind=("offset", "quantised", "small"))
    return Drawn(partial(_vit, heads=heads), module, (image,))


def _regions(side: int, window: int, shift: int) -> np.ndarray:
    """Return which pixels may see each other after the image is rolled, `[windows, window^2, window^2]`."""
    part = np.zeros((side, side), int)
    edges = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((r, c) for r in edges for c in edges):
        part[rows, columns] = number
    blocks = part.reshape(side // window, window, side // window, window).transpose(0, 2, 1, 3)
    flat = blocks.reshape(-1, window * window)
    seen: np.ndarray = flat[:, :, None] == flat[:, None]
    return seen


def _relative(window: int) -> np.ndarray:
    """Return the row of the bias table for each pair of pixels of a window."""
    place = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    apart = place[:, :, None] - place[:, None] + window - 1
    rows: np.ndarray = apart[0] * (2 * window - 1) + apart[1]
    return rows


def _swin_torch(m: Any, x: Any) -> Any:
    side, width = x.shape[2:]
    w, s = m.window, m.shift
    moved = torch.roll(x, (-s, -s), (1, 2)) if s else x
    blocks = moved.unfold(1, w, w).unfold(2, w, w).flatten(1, 2).permute(0, 1, 3, 4, 2).flatten(2, 3)
    q, k, v = (a.unflatten(-1, (m.heads, -1)).transpose(2, 3) for a in m.qkv(blocks).chunk(3, -1))
    scores = q * (width // m.heads) ** -0.5 @ k.mT + m.table[torch.tensor(_relative(w))].permute(2, 0, 1)
    if s:
        scores = scores + torch.where(torch.tensor(_regions(side, w, s)), 0.0, -100.0)[:, None]
    out = m.proj((scores.softmax(-1) @ v).transpose(2, 3).flatten(3))
    out = out.unflatten(1, (side // w, side // w)).unflatten(3, (w, w)).transpose(2, 3).reshape(x.shape)
    return torch.roll(out, (s, s), (1, 2)) if s else out


def _swin(
    params: Params,
    x: Any,
    *,
    heads: int,
    window: int,
    shift: int,
    fill: float = -100.0,
    sign: int = -1,
    table: Callable[[Any], Any] = lambda rows: rows,
) -> Any:
    batch, side, _, width = x.shape
    count = side // window
    moved = jnp.roll(x, (sign * shift, sign * shift), (1, 2))
    blocks = moved.reshape(batch, count, window, count, window, width).transpose(0, 1, 3, 2, 4, 5)
    blocks = blocks.reshape(batch * count * count, window * window, width)
    q, k, v = (split_heads(a, heads) for a in jnp.split(linear(params, "qkv", blocks), 3, axis=-1))
    bias = params["table"][table(_relative(window))].transpose(2, 0, 1)[None]
    if shift:
        hidden = jnp.where(jnp.asarray(_regions(side, window, shift)), 0.0, fill)
        bias = bias + jnp.tile(hidden.astype(x.dtype)[:, None], (batch, 1, 1, 1))
    out = linear(params, "proj", merge_heads(attend(q, k, v, bias=bias)))
    out = out.reshape(batch, count, count, window, window, width).transpose(0, 1, 3, 2, 4, 5)
    return jnp.roll(out.reshape(x.shape), (-sign * shift, -sign * shift), (1, 2))


def _draw_swin(rng: np.random.Generator) -> Drawn:
    batch, heads, window = sizes(rng, 3, 2, 4)
    side, width, shift = window * int(rng.integers(2, 4)), heads * int(rng.integers(2, 4)), window // 2
    with seeded(rng):
        table = torch.nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        parts = {"table": table, "qkv": L(width, 3 * width, bias=flip(rng)), "proj": L(width, width)}
        module = Calls(_swin_torch, **parts, heads=heads, window=window, shift=shift)
    x = draw_input(rng, batch, side, side, width, unkind=("quantised", "small"))
    return Drawn(partial(_swin, heads=heads, window=window, shift=shift), module, (x,))


def _mixer_torch(m: Any, x: Any) -> Any:
    x = x + m.tokens2(F.gelu(m.tokens1(m.norm1(x).mT))).mT
    return x + m.channels2(F.gelu(m.channels1(m.norm2(x))))


def _mixer(params: Params, x: Any, *, skip: int = 1) -> Any:
    y = layer_norm(params, "norm1", x).swapaxes(1, 2)
    y = linear(params, "tokens2", exact_gelu(linear(params, "tokens1", y))).swapaxes(1, 2)
    x = x + y
    y = linear(params, "channels2", exact_gelu(linear(params, "channels1", layer_norm(params, "norm2", x))))
    return x * skip + y


def _draw_mixer(rng: np.random.Generator) -> Drawn:
    batch, tokens, width, hidden, wide = sizes(rng, 5, 2, 11)
    with seeded(rng):
        layers = {"tokens1": L(tokens, hidden), "tokens2": L(hidden, tokens)}
        layers |= {"channels1": L(width, wide), "channels2": L(wide, width)}
        module = Calls(_mixer_torch, **layers, norm1=N(width), norm2=N(width))
    return Drawn(_mixer, module, (draw_input(rng, batch, tokens, width),))


def _gmlp_torch(m: Any, x: Any) -> Any:
    u, v = F.gelu(m.wide(m.norm1(x))).chunk(2, -1)
    return x + m.out(u * m.spatial(m.norm2(v)))


def _gmlp(params: Params, x: Any, *, swapped: bool = False) -> Any:
    u, v = jnp.split(exact_gelu(linear(params, "wide", layer_norm(params, "norm1", x))), 2, axis=-1)
    u, v = (v, u) if swapped else (u, v)
    v = jnp.einsum("ts,bsd->btd", params["spatial.weight"][..., 0], layer_norm(params, "norm2", v))
    return x + linear(params, "out", u * (v + params["spatial.bias"][:, None]))


def _draw_gmlp(rng: np.random.Generator) -> Drawn:
    batch, steps, width, half = sizes(rng, 4, 2, 11)
    with seeded(rng):
        layers = {"wide": L(width, 2 * half), "out": L(half, width), "spatial": torch.nn.Conv1d(steps, steps, 1)}
        module = Calls(_gmlp_torch, **layers, norm1=N(width), norm2=N(half))
    return Drawn(_gmlp, module, (draw_input(rng, batch, steps, width),))


PAIRS = (
    ModelPair("vit", "ViT with one block: patches by a convolution against a product", _draw_vit),
    ModelPair("swin", "Swin's attention in shifted windows", _draw_swin),
    ModelPair("mlp-mixer", "a block of MLP-Mixer", _draw_mixer),
    ModelPair("gmlp", "a block of gMLP with spatial gating", _draw_gmlp),
)
MISTAKES = (
    Mistake("vit-patch-order", "vit", "patches are channels-last", options(patches=_patches_channels_last)),
    Mistake("vit-token-last", "vit", "the class token is appended and still read first", options(token_first=False)),
    Mistake("vit-mean", "vit", "tokens are averaged", options(pool=lambda x: x.mean(1))),
    Mistake("swin-no-mask", "swin", "pixels that the roll brings together see each other", options(fill=0.0)),
    Mistake("swin-shift", "swin", "the image rolls the other way", options(sign=1)),
    Mistake("swin-bias-transposed", "swin", "the bias is the key's against the query's", options(table=np.transpose)),
    Mistake("mixer-no-skip", "mlp-mixer", "the second skip is missing", options(skip=0)),
    Mistake("gmlp-halves", "gmlp", "the other half is the gate", options(swapped=True)),
)
