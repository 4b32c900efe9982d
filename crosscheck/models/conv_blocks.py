"""Whole blocks of convolutional networks: ResNet, U-Net, ConvNeXt, MobileNet, squeeze and excitation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import both, options, other_inputs, other_module
from crosscheck.models.convolution import convolve
from crosscheck.models.drawing import GENTLE, Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F, Conv2d = torch.nn.functional, torch.nn.Conv2d


def statistics(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return the running means and variances of a module by name."""
    return {name: b.numpy() for name, b in module.named_buffers() if b.is_floating_point()}


def batch_norm(params: Params, stats: Mapping[str, Any], name: str, x: Any, eps: float = 1e-5) -> Any:
    """Return BatchNorm in eval mode over the second axis of an image."""
    shape = (-1, 1, 1)
    mean, var = (jnp.asarray(stats[f"{name}.running_{what}"], x.dtype) for what in ("mean", "var"))
    scale = params[f"{name}.weight"] / jnp.sqrt(var + eps)
    shift = params[f"{name}.bias"] - mean * scale
    return x * scale.reshape(shape) + shift.reshape(shape)


def _res_net(params: Params, x: Any, *, stats: Mapping[str, Any], stride: int, eps: float, use: bool = True) -> Any:
    if not use:
        stats = {name: np.full_like(s, name.endswith("running_var")) for name, s in stats.items()}
    y = batch_norm(params, stats, "norm1", convolve(params, "conv1.", x, stride=stride, padding=1), eps)
    y = batch_norm(params, stats, "norm2", convolve(params, "conv2.", jax.nn.relu(y), padding=1), eps)
    short = batch_norm(params, stats, "norm3", convolve(params, "conv3.", x, stride=stride), eps)
    return jax.nn.relu(y + short)


def _torch_res_net(m: Any, x: Any) -> Any:
    y = m.norm2(m.conv2(torch.relu(m.norm1(m.conv1(x)))))
    return torch.relu(y + m.norm3(m.conv3(x)))


def _draw_res_net(rng: Rng) -> Drawn:
    b, c, out, h, w = sizes(rng, 5, high=7)
    stride = one_of(rng, 1, 2)
    norms = lambda: {f"norm{n}": torch.nn.BatchNorm2d(out) for n in (1, 2, 3)}
    convs = lambda: {
        "conv1": Conv2d(c, out, 3, stride, 1, bias=False),
        "conv2": Conv2d(out, out, 3, padding=1, bias=False),
        "conv3": Conv2d(c, out, 1, stride, bias=False),
    }
    module = made(rng, lambda: Calls(_torch_res_net, **convs(), **norms()), spread=0.2)
    port = partial(_res_net, stats=statistics(module), stride=stride, eps=1e-5)
    return Drawn(port, module, (numbers(rng, b, c, h, w, unkind=GENTLE),))


def _default_buffers(module: Any) -> None:
    for name, buffer in module.named_buffers():
        buffer.fill_(1 if name.endswith("running_var") else 0)


def _use_default_buffers(drawn: Drawn) -> Drawn:
    changed = other_module(_default_buffers)(drawn)
    return options(stats=statistics(changed.module), use=False)(changed)


def _u_net(params: Params, x: Any, *, skip_first: bool = True) -> Any:
    high = jax.nn.relu(convolve(params, "enter.", x, padding=1))
    small = nn.max_pool(high.transpose(0, 2, 3, 1), (2, 2), (2, 2)).transpose(0, 3, 1, 2)
    low = jax.nn.relu(convolve(params, "middle.", small, padding=1))
    up = jnp.repeat(jnp.repeat(low, 2, axis=2), 2, axis=3)
    joined = jnp.concatenate((high, up) if skip_first else (up, high), axis=1)
    return convolve(params, "leave.", joined, padding=1)


def _torch_u_net(m: Any, x: Any) -> Any:
    high = torch.relu(m.enter(x))
    low = torch.relu(m.middle(F.max_pool2d(high, 2)))
    return m.leave(torch.cat((high, F.interpolate(low, scale_factor=2)), dim=1))


def _draw_u_net(rng: Rng) -> Drawn:
    b, c, d, h, w = sizes(rng, 5, high=6)
    parts = lambda: {
        "enter": Conv2d(c, d, 3, padding=1),
        "middle": Conv2d(d, d, 3, padding=1),
        "leave": Conv2d(2 * d, 2, 3, padding=1),
    }
    module = made(rng, lambda: Calls(_torch_u_net, **parts()))
    return Drawn(_u_net, module, (numbers(rng, b, c, 2 * h, 2 * w, unkind=("small",)),))


def _conv_next(params: Params, x: Any, *, eps: float = 1e-6, layer_scale: bool = True) -> Any:
    y = convolve(params, "deep.", x, padding=1, groups=x.shape[1]).transpose(0, 2, 3, 1)
    weights = {"scale": params["norm.weight"], "bias": params["norm.bias"]}
    y = nn.LayerNorm(epsilon=eps, use_fast_variance=False).apply({"params": weights}, y)
    y = linear(params, "down", jax.nn.gelu(linear(params, "up", y), approximate=False))
    y = params["scale"] * y if layer_scale else y
    return x + y.transpose(0, 3, 1, 2)


def _torch_conv_next(m: Any, x: Any) -> Any:
    y = m.norm(m.deep(x).permute(0, 2, 3, 1))
    return x + (m.scale * m.down(F.gelu(m.up(y)))).permute(0, 3, 1, 2)


def _draw_conv_next(rng: Rng) -> Drawn:
    b, c, h, w = sizes(rng, 4, low=3, high=7)
    parts = lambda: {
        "deep": Conv2d(c, c, 3, padding=1, groups=c),
        "norm": torch.nn.LayerNorm(c, eps=1e-6),
        "up": torch.nn.Linear(c, 2 * c),
        "down": torch.nn.Linear(2 * c, c),
        "scale": torch.nn.Parameter(torch.full((c,), 0.3)),
    }
    module = made(rng, lambda: Calls(_torch_conv_next, **parts()), spread=0.1)
    return Drawn(_conv_next, module, (numbers(rng, b, c, h, w, unkind=("quantised",)),))


def _excite(params: Params, x: Any, *, squeeze: Callable[..., Any] = jnp.mean) -> Any:
    inner = jax.nn.relu(linear(params, "down", squeeze(x, axis=(2, 3))))
    gate = jax.nn.sigmoid(linear(params, "up", inner))
    return x * gate[:, :, None, None]


def _draw_excite(rng: Rng) -> Drawn:
    b, c, h, w, inner = sizes(rng, 5)
    forward = lambda m, x: x * torch.sigmoid(m.up(torch.relu(m.down(x.mean((2, 3))))))[..., None, None]
    parts = lambda: {"down": torch.nn.Linear(c, inner), "up": torch.nn.Linear(inner, c)}
    return Drawn(_excite, made(rng, lambda: Calls(forward, **parts())), (numbers(rng, b, c, h, w, unkind=GENTLE),))


def _mobile(params: Params, x: Any, *, stats: Mapping[str, Any], act: Any = jax.nn.relu6, last: bool = False) -> Any:
    y = act(batch_norm(params, stats, "norm1", convolve(params, "widen.", x)))
    y = act(batch_norm(params, stats, "norm2", convolve(params, "deep.", y, padding=1, groups=y.shape[1])))
    y = batch_norm(params, stats, "norm3", convolve(params, "narrow.", y))
    return act(x + y) if last else x + y


def _torch_mobile(m: Any, x: Any) -> Any:
    y = F.relu6(m.norm1(m.widen(x)))
    return x + m.norm3(m.narrow(F.relu6(m.norm2(m.deep(y)))))


def _draw_mobile(rng: Rng) -> Drawn:
    b, c, h, w = sizes(rng, 4, high=7)
    parts = lambda: {
        "widen": Conv2d(c, 2 * c, 1, bias=False),
        "deep": Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c, bias=False),
        "narrow": Conv2d(2 * c, c, 1, bias=False),
        "norm1": torch.nn.BatchNorm2d(2 * c),
        "norm2": torch.nn.BatchNorm2d(2 * c),
        "norm3": torch.nn.BatchNorm2d(c),
    }
    module = made(rng, lambda: Calls(_torch_mobile, **parts()), spread=0.3)
    # Large enough that ReLU6 cuts at 6.
    x = 4 * numbers(rng, b, c, h, w, unkind=("quantised",))
    return Drawn(partial(_mobile, stats=statistics(module)), module, (x,))


PAIRS = (
    ModelPair("resnet-block", "a residual block with BatchNorm in eval mode", _draw_res_net),
    ModelPair("u-net", "one level of a U-Net", _draw_u_net),
    ModelPair("convnext-block", "a ConvNeXt block with a layer scale", _draw_conv_next),
    ModelPair("squeeze-excite", "channels scaled by a gate of their means", _draw_excite),
    ModelPair("mobilenet-block", "an inverted residual block with ReLU6", _draw_mobile),
)

MISTAKES = (
    Mistake("resnet-eps", "resnet-block", "ε is 1e-3, Keras's default", options(eps=1e-3)),
    Mistake("resnet-statistics", "resnet-block", "the running statistics are ignored", options(use=False)),
    Mistake(
        "resnet-statistics-unseen", "resnet-block", "the running statistics are ignored, before any training",
        _use_default_buffers, hidden_by="the running statistics are at their defaults",
        answer="have their default values",
    ),
    Mistake("u-net-order", "u-net", "the two halves change places", options(skip_first=False)),
    Mistake("convnext-eps", "convnext-block", "ε is 1e-5", options(eps=1e-5)),
    Mistake("convnext-scale", "convnext-block", "the layer scale is missing", options(layer_scale=False)),
    Mistake("excite-by-max", "squeeze-excite", "the maximum in place of the mean", options(squeeze=jnp.max)),
    Mistake("mobilenet-relu", "mobilenet-block", "ReLU in place of ReLU6", options(act=jax.nn.relu)),
    Mistake("mobilenet-last", "mobilenet-block", "an activation after the sum", options(last=True)),
    Mistake(
        "mobilenet-relu-unseen", "mobilenet-block", "ReLU in place of ReLU6, for small features",
        both(other_inputs(lambda x: (1e-3 * x,)), options(act=jax.nn.relu)),
        hidden_by="no feature reaches 6",
        answer="no number is beyond the upper bound of clamp",
    ),
)  # fmt: skip
