"""Pooling, and what moves between space and channels: shuffling, upsampling, unfolding, patches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from crosscheck.models.changing import around, both, options, other_inputs
from crosscheck.models.drawing import UNKIND, Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F = torch.nn.functional


def _image(rng: Rng, low: int = 4, unkind: tuple[str, ...] = tuple(UNKIND)) -> np.ndarray:
    return numbers(rng, *sizes(rng, 2, high=4), *sizes(rng, 2, low=low, high=9), unkind=unkind)


def _drawn(port: Callable[..., Any], forward: Callable[[Any], Any], x: np.ndarray) -> Drawn:
    """Return the problem of a layer without parameters."""
    return Drawn(port, Calls(lambda m, x: forward(x)), (x,))


def _max_pool(params: Any, x: Any, *, window: int, stride: int, padding: int) -> Any:
    return _last(
        partial(nn.max_pool, window_shape=(window,) * 2, strides=(stride,) * 2, padding=[(padding,) * 2] * 2), x
    )


def _max_pool_zeros(port: Any, params: Any, x: Any) -> Any:
    how = dict(port.keywords)
    edge = (how.pop("padding"),) * 2
    return _max_pool(params, jnp.pad(x, ((0, 0), (0, 0), edge, edge)), padding=0, **how)


def _last(layer: Callable[[Any], Any], x: Any) -> Any:
    """Return a layer of channels-last images on ``[B, C, H, W]``."""
    return layer(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _draw_max_pool(rng: Rng) -> Drawn:
    how: dict[str, Any] = {"stride": one_of(rng, 1, 2), "padding": 1}
    window = one_of(rng, 2, 3)
    port = partial(_max_pool, window=window, **how)
    return _drawn(port, lambda x: F.max_pool2d(x, window, **how), _image(rng))


def _avg_pool(params: Any, x: Any, *, window: int, stride: int, count_padding: bool) -> Any:
    pool = partial(nn.avg_pool, window_shape=(window,) * 2, strides=(stride,) * 2, padding=[(1, 1)] * 2)
    return _last(partial(pool, count_include_pad=count_padding), x)


def _draw_avg_pool(rng: Rng) -> Drawn:
    window, stride, count = one_of(rng, 2, 3), one_of(rng, 1, 2), one_of(rng, True, False)
    forward = lambda x: F.avg_pool2d(x, window, stride, padding=1, count_include_pad=count)
    return _drawn(partial(_avg_pool, window=window, stride=stride, count_padding=count), forward, _image(rng))


def _flip_count(drawn: Drawn) -> Drawn:
    return options(count_padding=not drawn.port.keywords["count_padding"])(drawn)  # type: ignore[attr-defined]


def _adaptive(params: Any, x: Any, *, bins: int, reduce: Callable[..., Any], even: bool = False) -> Any:
    length = x.shape[-1]
    if even:
        edges = [(n * (length // bins), (n + 1) * (length // bins)) for n in range(bins)]
    else:
        edges = [(n * length // bins, -(-(n + 1) * length // bins)) for n in range(bins)]
    return jnp.stack([reduce(x[..., start:stop], axis=-1) for start, stop in edges], axis=-1)


def _draw_adaptive(rng: Rng) -> Drawn:
    b, c = sizes(rng, 2)
    bins = one_of(rng, 3, 4, 5)
    length = bins * one_of(rng, 2, 3) + one_of(rng, 1, 2)
    kinds: list[Any] = [(F.adaptive_avg_pool1d, jnp.mean), (F.adaptive_max_pool1d, jnp.max)]
    forward, reduce = one_of(rng, *kinds)
    x = numbers(rng, b, c, length, unkind=("small", "large", "offset"))
    return _drawn(partial(_adaptive, bins=bins, reduce=reduce), lambda x: forward(x, bins), x)


def _lp_pool(params: Any, x: Any, *, power: int, mean: bool = False) -> Any:
    total = lax.reduce_window(x**power, 0.0, lax.add, (1, 1, 2), (1, 1, 2), "VALID")
    return (total / 2 if mean else total) ** (1 / power)


def _draw_lp_pool(rng: Rng) -> Drawn:
    b, c, length = sizes(rng, 3)
    power = one_of(rng, 2, 4)
    x = numbers(rng, b, c, length + 2, unkind=("small", "offset"))
    return _drawn(partial(_lp_pool, power=power), lambda x: F.lp_pool1d(x, power, 2), x)


def _shuffle(params: Any, x: Any, *, factor: int, order: Any = (0, 1, 4, 2, 5, 3)) -> Any:
    b, c, h, w = x.shape
    split = {(0, 1, 4, 2, 5, 3): (-1, factor, factor), (0, 3, 4, 1, 5, 2): (factor, factor, -1)}[order]
    return x.reshape(b, *split, h, w).transpose(order).reshape(b, c // factor**2, h * factor, w * factor)


def _draw_shuffle(rng: Rng) -> Drawn:
    b, c, h, w = sizes(rng, 4, high=6)
    factor = one_of(rng, 2, 3)
    x = numbers(rng, b, c * factor**2, h, w)
    return _drawn(partial(_shuffle, factor=factor), lambda x: F.pixel_shuffle(x, factor), x)


def _nearest(params: Any, x: Any, *, factor: int) -> Any:
    return jnp.repeat(jnp.repeat(x, factor, axis=2), factor, axis=3)


def _nearest_tiled(port: Any, params: Any, x: Any) -> Any:
    return jnp.tile(x, (1, 1, *(port.keywords["factor"],) * 2))


def _draw_nearest(rng: Rng) -> Drawn:
    factor = one_of(rng, 2, 3)
    forward = lambda x: F.interpolate(x, scale_factor=factor, mode="nearest")
    return _drawn(partial(_nearest, factor=factor), forward, _image(rng, low=2))


def _resize(params: Any, x: Any, *, factor: int) -> Any:
    b, c, h, w = x.shape
    return jax.image.resize(x, (b, c, factor * h, factor * w), method="linear")


def _draw_resize(rng: Rng) -> Drawn:
    factor = one_of(rng, 2, 3, 4)
    forward = lambda x: F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return _drawn(partial(_resize, factor=factor), forward, _image(rng, low=2))


def _corners(params: Any, x: Any, *, size: tuple[int, int], aligned: bool = True) -> Any:
    for axis, new in zip((2, 3), size, strict=True):
        x = _stretch(jnp.moveaxis(x, axis, -1), new, aligned)
        x = jnp.moveaxis(x, -1, axis)
    return x


def _stretch(x: Any, new: int, aligned: bool) -> Any:
    old = x.shape[-1]
    at = jnp.arange(new, dtype=x.dtype)
    at = at * (old - 1) / (new - 1) if aligned else jnp.clip((at + 0.5) * old / new - 0.5, 0, old - 1)
    low = jnp.minimum(at.astype(int), old - 2)
    return x[..., low] * (low + 1 - at) + x[..., low + 1] * (at - low)


def _draw_corners(rng: Rng) -> Drawn:
    x = _image(rng, low=3)
    size = (x.shape[2] + one_of(rng, 2, 5), x.shape[3] + one_of(rng, 1, 4))
    forward = lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    return _drawn(partial(_corners, size=size), forward, x)


def _unfold(params: Any, x: Any, *, window: tuple[int, int], stride: int) -> Any:
    # Not lax.conv_general_dilated_patches: XLA ends the process in its float64 gradient, such as for stride 2,
    # a window of (3, 2) and an input of (2, 3, 4, 8), in jaxlib 0.10.2.
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = ((n - w) // stride + 1 for n, w in zip(x.shape[2:], window, strict=True))
    seen = [
        x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride][:, :, :rows, :columns]
        for i in range(window[0])
        for j in range(window[1])
    ]
    return jnp.stack(seen, axis=2).reshape(x.shape[0], -1, rows * columns)


def _window_first(port: Any, params: Any, x: Any) -> Any:
    y = port(params, x)
    b, features, length = y.shape
    return y.reshape(b, x.shape[1], -1, length).swapaxes(1, 2).reshape(b, features, length)


def _draw_unfold(rng: Rng) -> Drawn:
    window, stride = one_of(rng, (2, 3), (3, 2)), one_of(rng, 1, 2)
    forward = lambda x: F.unfold(x, window, padding=1, stride=stride)
    return _drawn(partial(_unfold, window=window, stride=stride), forward, _image(rng))


def _patches(params: Any, x: Any, *, patch: int, columns_first: bool = False) -> Any:
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // patch, patch, w // patch, patch)
    x = x.transpose(0, 4, 2, 1, 3, 5) if columns_first else x.transpose(0, 2, 4, 1, 3, 5)
    kernel = params["weight"].reshape(params["weight"].shape[0], -1)
    return x.reshape(b, -1, kernel.shape[1]) @ kernel.T + params["bias"]


def _draw_patches(rng: Rng) -> Drawn:
    b, c, rows, columns, out = sizes(rng, 5, high=6)
    patch = one_of(rng, 2, 3)
    module = made(rng, lambda: torch.nn.Conv2d(c, out, patch, stride=patch))
    forward = lambda m, x: m(x).flatten(2).transpose(1, 2)
    x = numbers(rng, b, c, rows * patch, columns * patch)
    return Drawn(partial(_patches, patch=patch), module, (x,), {"torch_fn": forward})


PAIRS = (
    ModelPair("max-pool", "the largest of a window, in flax.linen", _draw_max_pool),
    ModelPair("avg-pool", "the mean of a window, with or without the padding", _draw_avg_pool),
    ModelPair("adaptive-pool", "the mean or the largest of a given number of bins", _draw_adaptive),
    ModelPair("lp-pool", "the p-norm of a window", _draw_lp_pool),
    ModelPair("pixel-shuffle", "channels that become pixels", _draw_shuffle),
    ModelPair("upsample-nearest", "pixels that are repeated", _draw_nearest),
    ModelPair("upsample-resize", "bilinear upsampling by jax.image.resize", _draw_resize),
    ModelPair("upsample-corners", "bilinear upsampling whose corners are aligned", _draw_corners),
    ModelPair("unfold", "windows as columns", _draw_unfold),
    ModelPair("patch-embedding", "a strided convolution as a linear layer on patches", _draw_patches),
)

MISTAKES = (
    Mistake("max-pool-zeros", "max-pool", "the padding is zero", around(_max_pool_zeros)),
    Mistake(
        "max-pool-zeros-unseen", "max-pool", "the padding is zero, after a ReLU",
        both(other_inputs(lambda x: (np.abs(x) + 0.1,)), around(_max_pool_zeros)),
        hidden_by="every number is positive",
        answer="no number of 'input 0' is negative or 0",
    ),
    Mistake("avg-pool-count", "avg-pool", "count_include_pad is the other one", _flip_count),
    Mistake("adaptive-even-bins", "adaptive-pool", "all bins have one size", options(even=True)),
    Mistake("lp-pool-mean", "lp-pool", "the mean in place of the sum", options(mean=True)),
    Mistake("shuffle-order", "pixel-shuffle", "the channels come last in the split", options(order=(0, 3, 4, 1, 5, 2))),
    Mistake("nearest-tiled", "upsample-nearest", "the image is repeated, not its pixels", around(_nearest_tiled)),
    Mistake("corners-not-aligned", "upsample-corners", "align_corners is False", options(aligned=False)),
    Mistake("unfold-order", "unfold", "the window comes before the channels", around(_window_first)),
    Mistake("patches-by-columns", "patch-embedding", "the patches run down the columns", options(columns_first=True)),
)  # fmt: skip
