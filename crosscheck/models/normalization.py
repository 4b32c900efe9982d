"""Normalization over batches, layers, groups and instances."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import Params
from crosscheck.models.changing import around, options, other_module
from crosscheck.models.conv_blocks import statistics
from crosscheck.models.drawing import Rng, made, numbers, one_of, rarely, sizes
from crosscheck.models.pair import Drawn, Mistake, ModelPair

F = torch.nn.functional


def _per_channel(values: Any, x: Any) -> Any:
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _scaled(params: Params, normed: Any) -> Any:
    return normed * _per_channel(params["weight"], normed) + _per_channel(params["bias"], normed)


def _batch_eval(params: Params, x: Any, *, stats: Mapping[str, Any], eps: float = 1e-5, use: bool = True) -> Any:
    stats = stats if use else {name: np.full_like(s, name.endswith("var")) for name, s in stats.items()}
    layer = nn.BatchNorm(use_running_average=True, epsilon=eps, axis=1)
    variables = {
        "params": {"scale": params["weight"], "bias": params["bias"]},
        "batch_stats": {name: jnp.asarray(stats[f"running_{name}"], x.dtype) for name in ("mean", "var")},
    }
    return layer.apply(variables, x)


def _draw_batch_eval(rng: Rng) -> Drawn:
    b, c, h, w = sizes(rng, 4)
    flat = one_of(rng, True, False)
    module = made(rng, lambda: torch.nn.BatchNorm1d(c) if flat else torch.nn.BatchNorm2d(c), spread=0.4)
    x = numbers(rng, b, c) if flat else numbers(rng, b, c, h, w)
    return Drawn(partial(_batch_eval, stats=statistics(module)), module, (x,))


def _batch_eval_default(drawn: Drawn) -> Drawn:
    changed = other_module(lambda module: module.reset_running_stats())(drawn)  # type: ignore[operator]
    return options(stats=statistics(changed.module), use=False)(changed)


def _batch_train(params: Params, x: Any, *, axes: tuple[int, ...], eps: float = 1e-5, ddof: int = 0) -> Any:
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True, ddof=ddof)
    return _scaled(params, (x - mean) / jnp.sqrt(var + eps))


def _draw_batch_train(rng: Rng) -> Drawn:
    b, c, h, w = sizes(rng, 4, low=3, high=8)
    flat = one_of(rng, True, False)
    module = made(rng, lambda: torch.nn.BatchNorm1d(c) if flat else torch.nn.BatchNorm2d(c), spread=0.4)
    unkind = ("small", "large", "offset")
    x = numbers(rng, b + 3, c, unkind=unkind) if flat else numbers(rng, b, c, h, w, unkind=unkind)
    return Drawn(partial(_batch_train, axes=(0,) if flat else (0, 2, 3)), module, (x,), {"train": True})


def _batch_constant(port: Any, params: Params, x: Any) -> Any:
    axes = port.keywords["axes"]
    mean, var = (jax.lax.stop_gradient(f(x, axis=axes, keepdims=True)) for f in (jnp.mean, jnp.var))
    return _scaled(params, (x - mean) / jnp.sqrt(var + 1e-5))


def _moving(params: Params, x: Any, *, stats: Mapping[str, Any], momentum: float, ddof: int = 1) -> Any:
    old = lambda name: jnp.asarray(stats[f"running_{name}"], x.dtype)
    move = lambda name, new: (1 - momentum) * old(name) + momentum * jax.lax.stop_gradient(new)
    y = _batch_train(params, x, axes=(0,))
    return y, move("mean", x.mean(axis=0)), move("var", x.var(axis=0, ddof=ddof))


def _draw_moving(rng: Rng) -> Drawn:
    b, c = sizes(rng, 2, low=4)
    momentum = one_of(rng, 0.1, 0.3)
    module = made(rng, lambda: torch.nn.BatchNorm1d(c, momentum=momentum), spread=0.4)
    forward = lambda m, x: (m(x), m.running_mean, m.running_var)
    port = partial(_moving, stats=statistics(module), momentum=momentum)
    x = numbers(rng, b, c, unkind=("small", "offset"))
    return Drawn(port, module, (x,), {"train": True, "torch_fn": forward})


def _layer_linen(params: Params, x: Any, *, eps: float = 1e-5) -> Any:
    weights = {"scale": params["weight"], "bias": params["bias"]}
    return nn.LayerNorm(epsilon=eps).apply({"params": weights}, x)


def _draw_layer_linen(rng: Rng) -> Drawn:
    b, t, d = sizes(rng, 3, low=3, high=12)
    module = made(rng, lambda: torch.nn.LayerNorm(d), spread=0.3)
    x = rng.normal(size=(b, t, d)) + rarely(rng, 300.0, 0.0)
    return Drawn(_layer_linen, module, (x,))


def _layer(params: Params, x: Any, *, axes: tuple[int, ...] = (-2, -1), ddof: int = 0, std: bool = False) -> Any:
    centred = x - x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, keepdims=True, ddof=ddof)
    normed = centred / (jnp.sqrt(var) + 1e-5 if std else jnp.sqrt(var + 1e-5))
    return normed * params["weight"] + params.get("bias", 0)


def _draw_layer(rng: Rng) -> Drawn:
    b, h, w = sizes(rng, 3, low=3)
    module = made(rng, lambda: torch.nn.LayerNorm((h, w), bias=one_of(rng, True, False)), spread=0.3)
    return Drawn(_layer, module, (numbers(rng, b, h, w, unkind=("small", "large", "offset", "zeros")),))


def _group(params: Params, x: Any, *, groups: int) -> Any:
    weights = {"scale": params["weight"], "bias": params["bias"]}
    layer: Any = nn.GroupNorm(num_groups=groups, epsilon=1e-5, use_fast_variance=False)
    return jnp.moveaxis(layer.apply({"params": weights}, jnp.moveaxis(x, 1, -1)), -1, 1)


def _draw_group(rng: Rng) -> Drawn:
    b, h, w = sizes(rng, 3)
    groups, each = one_of(rng, (2, 3), (3, 2), (2, 4), (4, 2))
    module = made(rng, lambda: torch.nn.GroupNorm(groups, groups * each), spread=0.3)
    x = numbers(rng, b, groups * each, h, w, unkind=("small", "large", "offset"))
    return Drawn(partial(_group, groups=groups), module, (x,))


def _more_groups(drawn: Drawn) -> Drawn:
    channels = drawn.inputs[0].shape[1]
    groups = drawn.port.keywords["groups"]  # type: ignore[attr-defined]
    return options(groups=channels // groups if channels != groups**2 else channels)(drawn)


def _instance(params: Params, x: Any, *, axes: tuple[int, ...] = (2, 3), eps: float = 1e-5) -> Any:
    return _batch_train(params, x, axes=axes, eps=eps)


def _draw_instance(rng: Rng) -> Drawn:
    b, c, h, w = sizes(rng, 4, low=3)
    module = made(rng, lambda: torch.nn.InstanceNorm2d(c, affine=True), spread=0.3)
    return Drawn(_instance, module, (numbers(rng, b, c, h, w, unkind=("small", "large", "offset")),))


PAIRS = (
    ModelPair("batch-norm-eval", "BatchNorm in eval mode in flax.linen", _draw_batch_eval),
    ModelPair("batch-norm-train", "BatchNorm in train mode", _draw_batch_train),
    ModelPair("batch-norm-moving", "BatchNorm in train mode with its new running statistics", _draw_moving),
    ModelPair("layer-norm-linen", "LayerNorm in flax.linen with its fast variance", _draw_layer_linen),
    ModelPair("layer-norm", "LayerNorm over two axes", _draw_layer),
    ModelPair("group-norm", "GroupNorm in flax.linen", _draw_group),
    ModelPair("instance-norm", "InstanceNorm2d", _draw_instance),
)  # fmt: skip

MISTAKES = (
    Mistake("batch-norm-statistics", "batch-norm-eval", "the running statistics are ignored", options(use=False)),
    Mistake("batch-norm-eps", "batch-norm-eval", "ε is 1e-3", options(eps=1e-3)),
    Mistake(
        "batch-norm-statistics-unseen", "batch-norm-eval", "the running statistics are ignored, before any training",
        _batch_eval_default, hidden_by="the running statistics are at their defaults",
        answer="have their default values",
    ),
    Mistake("batch-norm-unbiased", "batch-norm-train", "the variance divides by n - 1", options(ddof=1)),
    Mistake("batch-norm-constant", "batch-norm-train", "the statistics carry no gradient", around(_batch_constant)),
    Mistake("batch-norm-momentum", "batch-norm-moving", "the momentum is flax's 0.99", options(momentum=0.99)),
    Mistake("batch-norm-moving-biased", "batch-norm-moving", "the running variance divides by n", options(ddof=0)),
    Mistake("layer-norm-eps", "layer-norm-linen", "ε is 1e-6, flax's default", options(eps=1e-6)),
    Mistake("layer-norm-ddof", "layer-norm", "the variance divides by n - 1", options(ddof=1)),
    Mistake("layer-norm-eps-outside", "layer-norm", "ε is added to the deviation", options(std=True)),
    Mistake("layer-norm-axes", "layer-norm", "it runs over the last axis", options(axes=(-1,))),
    Mistake("group-norm-groups", "group-norm", "groups and channels per group change places", _more_groups),
    Mistake("instance-norm-batch", "instance-norm", "the batch is normalized too", options(axes=(0, 2, 3))),
)  # fmt: skip
