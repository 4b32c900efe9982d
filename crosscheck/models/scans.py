"""State space models and other linear recurrences: loops in torch against lax.scan and lax.associative_scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import Params, draw_input, linear
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L, Weight = torch.nn.Linear, torch.nn.Parameter


def _mamba_torch(m: Any, x: Any) -> Any:
    """The selective scan with its causal convolution and its gate."""
    steps = x.shape[1]
    u, gate = m.enter(x).chunk(2, -1)
    u = F.silu(m.conv(u.mT)[..., :steps].mT)
    low, b, c = m.select(u).split([m.rank, m.states, m.states], -1)
    delta = F.softplus(m.delta(low))
    a = -torch.exp(m.a_log)
    h, outs = u.new_zeros(u.shape[0], u.shape[2], m.states), []
    for t in range(steps):
        step = delta[:, t, :, None]
        h = torch.exp(step * a) * h + step * b[:, t, None] * u[:, t, :, None]
        outs.append((h * c[:, t, None]).sum(-1))
    return m.leave((torch.stack(outs, 1) + m.d * u) * F.silu(gate))


def _combine(left: Any, right: Any) -> Any:
    return left[0] * right[0], right[0] * left[1] + right[1]


def _combine_swapped(left: Any, right: Any) -> Any:
    return left[0] * right[0], left[0] * right[1] + left[1]


def _mamba(
    params: Params,
    x: Any,
    *,
    rank: int,
    states: int,
    combine: Callable[[Any, Any], Any] = _combine,
    ahead: int = 0,
    rate: Callable[[Any], Any] = jnp.exp,
    positive: Callable[[Any], Any] = jax.nn.softplus,
) -> Any:
    steps = x.shape[1]
    u, gate = jnp.split(linear(params, "enter", x), 2, axis=-1)
    kernel = params["conv.weight"][:, 0]
    taps = kernel.shape[-1]
    padded = jnp.pad(u, ((0, 0), (taps - 1 - ahead, ahead), (0, 0)))
    u = sum(padded[:, n : n + steps] * kernel[:, n] for n in range(taps)) + params["conv.bias"]
    u = jax.nn.silu(u)
    low, b, c = jnp.split(linear(params, "select", u), [rank, rank + states], axis=-1)
    delta = positive(linear(params, "delta", low))[..., None]
    keep = jnp.exp(-delta * rate(params["a_log"]))
    _, h = jax.lax.associative_scan(combine, (keep, delta * b[:, :, None] * u[..., None]), axis=1)
    return linear(params, "leave", ((h * c[:, :, None]).sum(-1) + params["d"] * u) * jax.nn.silu(gate))


def _draw_mamba(rng: np.random.Generator) -> Drawn:
    batch, size, width, states, taps = sizes(rng, 5, 2, 7)
    steps, rank = int(rng.integers(7, 13)), int(rng.integers(1, 4))
    with seeded(rng):
        layers = {"enter": L(size, 2 * width, bias=False), "leave": L(width, size, bias=False)}
        layers |= {"select": L(width, rank + 2 * states, bias=False), "delta": L(rank, width)}
        conv = torch.nn.Conv1d(width, width, taps, groups=width, padding=taps - 1)
        a_log = Weight(torch.arange(1, states + 1).float().log().repeat(width, 1))
        extents = {"rank": rank, "states": states}
        module = Calls(_mamba_torch, **layers, **extents, conv=conv, a_log=a_log, d=Weight(torch.ones(width)))
    return Drawn(partial(_mamba, rank=rank, states=states), module, (draw_input(rng, batch, steps, size),))


def _lru_torch(m: Any, x: Any) -> Any:
    """The linear recurrent unit. Its weights are real, and complex numbers are made of them."""
    size = torch.exp(-torch.exp(m.nu_log))
    poles = torch.polar(size, torch.exp(m.theta_log))
    b = torch.complex(m.b_re, m.b_im) * torch.sqrt(1 - size**2)[:, None]
    h, outs = torch.zeros(x.shape[0], len(poles), dtype=poles.dtype), []
    for t in range(x.shape[1]):
        h = poles * h + x[:, t].to(b.dtype) @ b.T
        outs.append((h @ torch.complex(m.c_re, m.c_im).T).real + m.d * x[:, t])
    return torch.stack(outs, 1)


def _lru(params: Params, x: Any, *, normal: bool = True, part: Callable[[Any], Any] = jnp.real) -> Any:
    size = jnp.exp(-jnp.exp(params["nu_log"]))
    poles = size * jnp.exp(1j * jnp.exp(params["theta_log"]))
    b = params["b_re"] + 1j * params["b_im"]
    b = b * jnp.sqrt(1 - size**2)[:, None] if normal else b
    _, h = jax.lax.associative_scan(_combine, (jnp.broadcast_to(poles, (*x.shape[:2], len(poles))), x @ b.T), axis=1)
    return part(h @ (params["c_re"] + 1j * params["c_im"]).T) + params["d"] * x


def _draw_lru(rng: np.random.Generator) -> Drawn:
    batch, size, states, steps = sizes(rng, 4, 2, 9)
    with seeded(rng):
        shapes = {"b_re": (states, size), "b_im": (states, size), "c_re": (size, states), "c_im": (size, states)}
        weights = {name: Weight(torch.randn(shape) / states) for name, shape in shapes.items()}
        radius = torch.rand(states) * 0.4 + 0.55
        weights |= {"nu_log": Weight(torch.log(-torch.log(radius))), "d": Weight(torch.randn(size))}
        module = Calls(_lru_torch, **weights, theta_log=Weight(torch.log(3 * torch.rand(states) + 0.05)))
    return Drawn(_lru, module, (draw_input(rng, batch, steps, size),))


def _s4d_torch(m: Any, x: Any) -> Any:
    """S4D: a long convolution with a kernel of diagonal complex states, by the FFT."""
    steps = x.shape[1]
    step = torch.exp(m.log_step)[:, None]
    a = torch.complex(-torch.exp(m.log_decay), m.frequency)
    c = torch.complex(m.c_re, m.c_im) * (torch.exp(a * step) - 1) / a
    powers = torch.exp((a * step)[..., None] * torch.arange(steps))
    kernel = 2 * torch.einsum("dn,dnt->dt", c, powers).real
    spectrum = torch.fft.rfft(kernel, 2 * steps) * torch.fft.rfft(x.mT, 2 * steps)
    return (torch.fft.irfft(spectrum, 2 * steps)[..., :steps] + m.d[:, None] * x.mT).mT


def _s4d(params: Params, x: Any, *, room: int = 2, twice: float = 2.0) -> Any:
    steps = x.shape[1]
    step = jnp.exp(params["log_step"])[:, None]
    a = -jnp.exp(params["log_decay"]) + 1j * params["frequency"]
    c = (params["c_re"] + 1j * params["c_im"]) * (jnp.exp(a * step) - 1) / a
    kernel = twice * jnp.einsum("dn,dnt->td", c, jnp.exp((a * step)[..., None] * jnp.arange(steps))).real
    product = jnp.fft.rfft(kernel, room * steps, axis=0) * jnp.fft.rfft(x, room * steps, axis=1)
    return jnp.fft.irfft(product, room * steps, axis=1)[:, :steps] + params["d"] * x


def _draw_s4d(rng: np.random.Generator) -> Drawn:
    batch, size, states = sizes(rng, 3, 2, 7)
    steps = int(rng.integers(8, 21))
    with seeded(rng):
        weights = {name: Weight(torch.randn(size, states)) for name in ("c_re", "c_im")}
        weights |= {"log_step": Weight(torch.rand(size) * 2 - 3), "d": Weight(torch.randn(size))}
        weights["log_decay"] = Weight(torch.full((size, states), 0.5).log())
        weights["frequency"] = Weight(torch.pi * (torch.arange(states) + 0.1).repeat(size, 1))
        module = Calls(_s4d_torch, **weights)
    return Drawn(_s4d, module, (draw_input(rng, batch, steps, size),))


def _rwkv_torch(m: Any, x: Any) -> Any:
    """RWKV's time mixing with the running maximum of the exponents."""
    before = F.pad(x, (0, 0, 1, -1))
    k, v, r = (f(x * w + before * (1 - w)) for f, w in ((m.k, m.mix_k), (m.v, m.mix_v), (m.r, m.mix_r)))
    decay, top = -torch.exp(m.decay), torch.full_like(k[:, 0], -1e38)
    over, under, outs = torch.zeros_like(top), torch.zeros_like(top), []
    for t in range(x.shape[1]):
        now = torch.maximum(top, m.first + k[:, t])
        old, new = torch.exp(top - now), torch.exp(m.first + k[:, t] - now)
        outs.append((old * over + new * v[:, t]) / (old * under + new))
        now = torch.maximum(top + decay, k[:, t])
        old, new = torch.exp(top + decay - now), torch.exp(k[:, t] - now)
        over, under, top = old * over + new * v[:, t], old * under + new, now
    return m.out(torch.sigmoid(r) * torch.stack(outs, 1))


def _rwkv(params: Params, x: Any, *, first: bool = True) -> Any:
    """The same as a quotient of sums, without a maximum."""
    before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    k, v, r = (linear(params, name, x * params[f"mix_{name}"] + before * (1 - params[f"mix_{name}"])) for name in "kvr")
    steps = jnp.arange(x.shape[1])
    behind = (steps[:, None] - steps)[..., None]
    exponent = -(behind - 1) * jnp.exp(params["decay"])
    now = params["first"] if first else 0.0
    exponent = jnp.where(behind == 0, now, jnp.where(behind > 0, exponent, -jnp.inf))
    weights = jax.nn.softmax(exponent + k[:, None], axis=2)
    return linear(params, "out", jax.nn.sigmoid(r) * jnp.einsum("btsd,bsd->btd", weights, v))


def _draw_rwkv(rng: np.random.Generator) -> Drawn:
    batch, size, width, steps = sizes(rng, 4, 3, 9)
    with seeded(rng):
        layers = {name: L(size, width, bias=False) for name in "kvr"}
        weights = {f"mix_{name}": Weight(torch.rand(size)) for name in "kvr"}
        weights |= {name: Weight(torch.randn(width)) for name in ("decay", "first")}
        module = Calls(_rwkv_torch, **layers, **weights, out=L(width, size, bias=False))
    return Drawn(_rwkv, module, (draw_input(rng, batch, steps, size, unkind=("quantised", "small", "zeros")),))


def _average_torch(m: Any, x: Any) -> Any:
    alpha, mean, outs = torch.sigmoid(m.logit), torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        mean = alpha * mean + (1 - alpha) * x[:, t]
        outs.append(mean / (1 - alpha ** (t + 1)) if m.corrected else mean)
    return torch.stack(outs, 1)


def _average(params: Params, x: Any, *, corrected: bool, start: int = 1) -> Any:
    alpha = jax.nn.sigmoid(params["logit"])
    steps = jnp.arange(start, x.shape[1] + start, dtype=x.dtype)[:, None]
    keep = jnp.broadcast_to(alpha, x.shape)
    _, mean = jax.lax.associative_scan(_combine, (keep, (1 - alpha) * x), axis=1)
    return mean / (1 - alpha**steps) if corrected else mean


def _draw_average(rng: np.random.Generator, corrected: bool) -> Drawn:
    batch, size, steps = sizes(rng, 3, 2, 20)
    module = Calls(_average_torch, logit=Weight(torch.tensor(rng.normal(2, 1, size)).float()), corrected=corrected)
    x = draw_input(rng, batch, steps, size, unkind=("offset", "large", "zeros"))
    return Drawn(partial(_average, corrected=corrected), module, (x,))


PAIRS = (
    ModelPair("mamba", "Mamba's selective scan against associative_scan", _draw_mamba),
    ModelPair("lru", "the linear recurrent unit, complex inside", _draw_lru),
    ModelPair("s4d", "S4D by the FFT, complex inside", _draw_s4d),
    ModelPair("rwkv", "RWKV's loop with a running maximum against a softmax", _draw_rwkv),
    ModelPair("moving-average", "an exponential moving average", partial(_draw_average, corrected=False)),
    ModelPair("moving-average-corrected", "the same with Adam's correction", partial(_draw_average, corrected=True)),
)
MISTAKES = (
    Mistake("mamba-combine", "mamba", "the operands of the scan are swapped", options(combine=_combine_swapped)),
    Mistake("mamba-conv-ahead", "mamba", "the convolution sees the next step", options(ahead=1)),
    Mistake("mamba-rate", "mamba", "the decay is not exponentiated", options(rate=lambda a_log: a_log)),
    Mistake("lru-not-normal", "lru", "inputs are not multiplied by the root of 1 - |pole|²", options(normal=False)),
    Mistake("lru-modulus", "lru", "the modulus in place of the real part", options(part=jnp.abs)),
    Mistake("s4d-circular", "s4d", "the FFT has no room, and the kernel wraps around", options(room=1)),
    Mistake("rwkv-no-first", "rwkv", "the bonus of the present token is missing", options(first=False)),
    Mistake("moving-average-step", "moving-average-corrected", "the correction comes one step late", options(start=2)),
)
