"""Dense layers and what is made of them: highway, FiLM, SIREN, bilinear, residual and maxout."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import torch

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import around, options, other_params, other_port
from crosscheck.models.drawing import GENTLE, Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

Linear = torch.nn.Linear


def _stack(params: Params, x: Any, *, depth: int) -> Any:
    for n in range(depth):
        x = linear(params, f"{2 * n}", x)
        x = x if n == depth - 1 else jnp.tanh(x)
    return x


def _draw_stack(rng: Rng) -> Drawn:
    depth = one_of(rng, 2, 3)
    b, *widths = sizes(rng, depth + 2)
    bias = bool(rng.random() < 0.8)

    def make() -> torch.nn.Module:
        layers: list[torch.nn.Module] = []
        for n in range(depth):
            layers += [Linear(widths[n], widths[n + 1], bias=bias), torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    return Drawn(partial(_stack, depth=depth), made(rng, make), (numbers(rng, b, widths[0], unkind=GENTLE),))


def _highway(params: Params, x: Any, *, depth: int) -> Any:
    for n in range(depth):
        gate = jax.nn.sigmoid(linear(params, f"gate.{n}", x))
        x = gate * jax.nn.relu(linear(params, f"plain.{n}", x)) + (1 - gate) * x
    return x


def _highway_carry_first(params: Params, x: Any, *, depth: int) -> Any:
    for n in range(depth):
        gate = jax.nn.sigmoid(linear(params, f"gate.{n}", x))
        x = (1 - gate) * jax.nn.relu(linear(params, f"plain.{n}", x)) + gate * x
    return x


def _torch_highway(m: Any, x: Any) -> Any:
    for gate, plain in zip(m.gate, m.plain, strict=True):
        g = torch.sigmoid(gate(x))
        x = g * torch.relu(plain(x)) + (1 - g) * x
    return x


def _draw_highway(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2)
    depth = one_of(rng, 1, 2)
    layers = lambda: torch.nn.ModuleList(Linear(d, d) for _ in range(depth))
    module = made(rng, lambda: Calls(_torch_highway, gate=layers(), plain=layers()))
    return Drawn(partial(_highway, depth=depth), module, (numbers(rng, b, d, unkind=GENTLE),))


def _film(params: Params, x: Any, condition: Any) -> Any:
    scale, shift = jnp.split(linear(params, "condition", condition)[:, None], 2, axis=-1)
    return jnp.tanh((1 + scale) * linear(params, "main", x) + shift)


def _film_swapped(params: Params, x: Any, condition: Any) -> Any:
    shift, scale = jnp.split(linear(params, "condition", condition)[:, None], 2, axis=-1)
    return jnp.tanh((1 + scale) * linear(params, "main", x) + shift)


def _torch_film(m: Any, x: Any, condition: Any) -> Any:
    scale, shift = m.condition(condition)[:, None].chunk(2, dim=-1)
    return torch.tanh((1 + scale) * m.main(x) + shift)


def _draw_film(rng: Rng) -> Drawn:
    b, t, d, c, h = sizes(rng, 5)
    module = made(rng, lambda: Calls(_torch_film, condition=Linear(c, 2 * h), main=Linear(d, h)))
    return Drawn(_film, module, (numbers(rng, b, t, d, unkind=GENTLE), numbers(rng, b, c, unkind=GENTLE)))


def _siren(params: Params, x: Any, *, frequency: float, bias_too: bool = True) -> Any:
    w, b = params["first.weight"], params["first.bias"]
    phase = frequency * (x @ w.T + b) if bias_too else frequency * (x @ w.T) + b
    return linear(params, "last", jnp.sin(phase))


def _draw_siren(rng: Rng) -> Drawn:
    b, h, out = sizes(rng, 3)
    frequency = float(rng.uniform(5, 30))
    forward = lambda m, x: m.last(torch.sin(frequency * m.first(x)))
    module = made(rng, lambda: Calls(forward, first=Linear(2, h), last=Linear(h, out)))
    return Drawn(partial(_siren, frequency=frequency), module, (rng.uniform(-1, 1, (b, 2)),))


def _bilinear(params: Params, head: Any, tail: Any, *, order: str = "oij") -> Any:
    y = jnp.einsum(f"bi,{order},bj->bo", head, params["weight"], tail)
    return y + params["bias"] if "bias" in params else y


def _draw_bilinear(rng: Rng) -> Drawn:
    b, d, out = sizes(rng, 3)
    module = made(rng, lambda: torch.nn.Bilinear(d, d, out, bias=one_of(rng, True, False)))
    return Drawn(_bilinear, module, (numbers(rng, b, d), numbers(rng, b, d)))


def _flax_dense(params: Params, name: str, x: Any) -> Any:
    weights = {"kernel": params[f"{name}.weight"].T, "bias": params[f"{name}.bias"]}
    return nn.Dense(weights["bias"].shape[0]).apply({"params": weights}, x)


def _residual(params: Params, x: Any, *, keep: bool = True) -> Any:
    scale = {"scale": params["norm.weight"], "bias": params["norm.bias"]}
    normed = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False).apply({"params": scale}, x)
    y = _flax_dense(params, "down", nn.gelu(_flax_dense(params, "up", normed), approximate=False))
    return (x if keep else normed) + y


def _draw_residual(rng: Rng) -> Drawn:
    b, t, d, h = sizes(rng, 4, low=3, high=12)
    forward = lambda m, x: x + m.down(torch.nn.functional.gelu(m.up(m.norm(x))))
    parts = lambda: {"norm": torch.nn.LayerNorm(d), "up": Linear(d, h), "down": Linear(h, d)}
    module = made(rng, lambda: Calls(forward, **parts()), spread=0.1)
    return Drawn(_residual, module, (numbers(rng, b, t, d, unkind=("large", "offset")),))


def _maxout(params: Params, x: Any, *, pieces: int, last: bool = True) -> Any:
    y = linear(params, "all", x)
    shape = (-1, pieces) if last else (pieces, -1)
    return y.reshape(*y.shape[:-1], *shape).max(axis=-1 if last else -2)


def _draw_maxout(rng: Rng) -> Drawn:
    b, d, out, pieces = sizes(rng, 4)
    forward = lambda m, x: m.all(x).unflatten(-1, (out, pieces)).max(dim=-1).values
    module = made(rng, lambda: Calls(forward, all=Linear(d, out * pieces)))
    return Drawn(partial(_maxout, pieces=pieces), module, (numbers(rng, b, d),))


def _in_float32(port: Any, params: Params, x: Any) -> Any:
    return port({name: p.astype(jnp.float32) for name, p in params.items()}, x.astype(jnp.float32)).astype(x.dtype)


PAIRS = (
    ModelPair("linear-stack", "linear layers with tanh between them", _draw_stack),
    ModelPair("highway", "one or two highway layers", _draw_highway),
    ModelPair("film", "features that a condition scales and shifts", _draw_film),
    ModelPair("siren", "a sine layer of a high frequency on coordinates", _draw_siren),
    ModelPair("bilinear", "torch.nn.Bilinear on two vectors of one size", _draw_bilinear),
    ModelPair("residual-mlp", "a pre-norm residual block in flax.linen", _draw_residual),
    ModelPair("maxout", "the largest of several linear pieces", _draw_maxout),
)

MISTAKES = (
    Mistake(
        "highway-transposed", "highway", "the kernel of a square layer is not transposed",
        other_params(lambda p: {"plain.0.weight": p["plain.0.weight"].T}),
    ),
    Mistake("highway-carry", "highway", "the gate and its complement are swapped", other_port(_highway_carry_first)),
    Mistake("film-swapped", "film", "scale and shift are swapped", other_port(_film_swapped)),
    Mistake("siren-bias", "siren", "the frequency does not multiply the bias", options(bias_too=False)),
    Mistake("bilinear-transposed", "bilinear", "the two inputs change places", options(order="oji")),
    Mistake("residual-of-normed", "residual-mlp", "the normalized input is added", options(keep=False)),
    Mistake("maxout-order", "maxout", "pieces and features change places", options(last=False)),
    Mistake("stack-float32", "linear-stack", "the input is cast to float32", around(_in_float32)),
)  # fmt: skip
