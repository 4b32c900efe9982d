"""Convolutions through time: quasi-RNN, WaveNet, a temporal convolutional network and a convolutional LSTM."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import Params, draw_input
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L = torch.nn.Linear


def _causal_conv(x: Any, kernel: Any, bias: Any, dilation: int = 1, late: int = 0) -> Any:
    """Return a causal convolution of `[B, C, T]` with torch's kernel `[out, C, taps]`. ``late`` moves the padding."""
    room = dilation * (kernel.shape[-1] - 1)
    out = jax.lax.conv_general_dilated(x, kernel, (1,), [(room - late, late)], rhs_dilation=(dilation,))
    return out + bias[:, None]


def _quasi_torch(m: Any, x: Any) -> Any:
    """The quasi-RNN with fo-pooling."""
    z, f, o = m.conv(F.pad(x.mT, (m.conv.kernel_size[0] - 1, 0))).chunk(3, 1)
    z, f, o = torch.tanh(z), torch.sigmoid(f), torch.sigmoid(o)
    c, outs = torch.zeros_like(z[..., 0]), []
    for t in range(x.shape[1]):
        c = f[..., t] * c + (1 - f[..., t]) * z[..., t]
        outs.append(o[..., t] * c)
    return torch.stack(outs, 1), c


def _quasi(params: Params, x: Any, *, late: int = 0) -> Any:
    mixed = _causal_conv(x.swapaxes(1, 2), params["conv.weight"], params["conv.bias"], late=late)
    z, f, o = jnp.split(mixed.transpose(2, 0, 1), 3, axis=-1)
    z, f, o = jnp.tanh(z), jax.nn.sigmoid(f), jax.nn.sigmoid(o)

    def step(c: Any, now: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        z, f, o = now
        c = f * c + (1 - f) * z
        return c, o * c

    last, out = jax.lax.scan(step, jnp.zeros_like(z[0]), (z, f, o))
    return out.swapaxes(0, 1), last


def _draw_quasi(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, steps = sizes(rng, 4, 2, 9)
    with seeded(rng):
        module = Calls(_quasi_torch, conv=torch.nn.Conv1d(size, 3 * hidden, int(rng.integers(2, 4))))
    return Drawn(_quasi, module, (draw_input(rng, batch, steps, size, unkind=("quantised", "small", "zeros")),))


def _wavenet_torch(m: Any, x: Any) -> Any:
    room = m.wide.dilation[0] * (m.wide.kernel_size[0] - 1)
    a, b = m.wide(F.pad(x, (room, 0))).chunk(2, 1)
    y = torch.tanh(a) * torch.sigmoid(b)
    return x + m.residual(y), m.skip(y)


def _wavenet(params: Params, x: Any, *, dilation: int, gates: Callable[[Any, Any], Any] | None = None) -> Any:
    wide = _causal_conv(x, params["wide.weight"], params["wide.bias"], dilation)
    a, b = jnp.split(wide, 2, axis=1)
    y = gates(a, b) if gates else jnp.tanh(a) * jax.nn.sigmoid(b)
    mix = lambda name: _causal_conv(y, params[f"{name}.weight"], params[f"{name}.bias"])
    return x + mix("residual"), mix("skip")


def _draw_wavenet(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, skip = sizes(rng, 4, 2, 7)
    steps, taps, dilation = int(rng.integers(9, 17)), int(rng.integers(2, 4)), int(rng.integers(1, 4))
    with seeded(rng):
        wide = torch.nn.Conv1d(size, 2 * hidden, taps, dilation=dilation)
        ends = {"residual": torch.nn.Conv1d(hidden, size, 1), "skip": torch.nn.Conv1d(hidden, skip, 1)}
        module = Calls(_wavenet_torch, wide=wide, **ends)
    return Drawn(partial(_wavenet, dilation=dilation), module, (draw_input(rng, batch, size, steps),))


def _tcn_torch(m: Any, x: Any) -> Any:
    """A residual block with weight norm: convolutions padded on both sides, whose end is cut off."""
    y = torch.relu(m.conv1(x)[..., : x.shape[-1]])
    return torch.relu(torch.relu(m.conv2(y)[..., : x.shape[-1]]) + m.down(x))


def _tcn(params: Params, x: Any, *, dilation: int, axes: tuple[int, ...] = (1, 2), late: int = 0) -> Any:
    def conv(name: str, x: Any) -> Any:
        g, v = (params[f"{name}.parametrizations.weight.original{n}"] for n in (0, 1))
        kernel = g * v / jnp.sqrt((v**2).sum(axes, keepdims=True))
        return jax.nn.relu(_causal_conv(x, kernel, params[f"{name}.bias"], dilation, late))

    y = conv("conv2", conv("conv1", x))
    return jax.nn.relu(y + _causal_conv(x, params["down.weight"], params["down.bias"]))


def _draw_tcn(rng: np.random.Generator) -> Drawn:
    batch, size, hidden = sizes(rng, 3, 2, 7)
    steps, taps, dilation = int(rng.integers(8, 17)), int(rng.integers(2, 4)), int(rng.integers(1, 3))
    options: dict[str, Any] = {"dilation": dilation, "padding": dilation * (taps - 1)}
    norm = torch.nn.utils.parametrizations.weight_norm
    with seeded(rng):
        convs = {f"conv{n}": norm(torch.nn.Conv1d(c, hidden, taps, **options)) for n, c in ((1, size), (2, hidden))}
        module = Calls(_tcn_torch, **convs, down=torch.nn.Conv1d(size, hidden, 1))
    return Drawn(partial(_tcn, dilation=dilation), module, (draw_input(rng, batch, size, steps, unkind=("small",)),))


def _conv_lstm_torch(m: Any, x: Any) -> Any:
    """A convolutional LSTM over `[B, T, C, H, W]`, with a peephole on the output gate."""
    batch, steps, _, height, width = x.shape
    h = c = x.new_zeros(batch, m.peep.shape[0], height, width)
    for t in range(steps):
        i, f, o, g = m.conv(torch.cat([x[:, t], h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o + m.peep[:, None, None] * c) * torch.tanh(c)
    return h, c


def _conv_lstm(params: Params, x: Any, *, order: str = "ifog", old_peep: bool = False) -> Any:
    peep = params["peep"][:, None, None]
    kernel, bias = params["conv.weight"], params["conv.bias"][:, None, None]
    room = kernel.shape[-1] // 2

    def step(state: Any, now: Any) -> Any:
        h, c = state
        both = jnp.concatenate([now, h], axis=1)
        mixed = jax.lax.conv_general_dilated(both, kernel, (1, 1), [(room, room)] * 2) + bias
        gates = dict(zip(order, jnp.split(mixed, 4, axis=1), strict=True))
        new = jax.nn.sigmoid(gates["f"]) * c + jax.nn.sigmoid(gates["i"]) * jnp.tanh(gates["g"])
        h = jax.nn.sigmoid(gates["o"] + peep * (c if old_peep else new)) * jnp.tanh(new)
        return (h, new), None

    first = jnp.zeros((len(x), len(params["peep"]), *x.shape[3:]), x.dtype)
    return jax.lax.scan(step, (first, first), x.swapaxes(0, 1))[0]


def _draw_conv_lstm(rng: np.random.Generator) -> Drawn:
    batch, channels, hidden, height, width = sizes(rng, 5, 2, 6)
    steps, side = int(rng.integers(2, 5)), int(rng.choice([1, 3]))
    with seeded(rng):
        conv = torch.nn.Conv2d(channels + hidden, 4 * hidden, side, padding=side // 2)
        module = Calls(_conv_lstm_torch, conv=conv, peep=torch.nn.Parameter(torch.randn(hidden)))
    x = draw_input(rng, batch, steps, channels, height, width, unkind=("quantised", "small"))
    return Drawn(_conv_lstm, module, (x,), {"output_names": ("h", "c")})


PAIRS = (
    ModelPair("quasi-rnn", "the quasi-RNN: a causal convolution and fo-pooling", _draw_quasi),
    ModelPair("wavenet", "a block of WaveNet with dilation", _draw_wavenet),
    ModelPair("tcn", "a block of a temporal convolutional network with weight norm", _draw_tcn),
    ModelPair("conv-lstm", "a convolutional LSTM with a peephole", _draw_conv_lstm),
)
MISTAKES = (
    Mistake("quasi-late", "quasi-rnn", "one step of the padding stands at the end", options(late=1)),
    Mistake(
        "wavenet-gates",
        "wavenet",
        "tanh and sigmoid are swapped",
        options(gates=lambda a, b: jax.nn.sigmoid(a) * jnp.tanh(b)),
    ),
    Mistake("wavenet-dilation", "wavenet", "the dilation is 4", options(dilation=4)),
    Mistake("tcn-norm-axes", "tcn", "weight norm leaves out the taps", options(axes=(1,))),
    Mistake("conv-lstm-order", "conv-lstm", "gates are in torch.nn.LSTM's order", options(order="ifgo")),
    Mistake("conv-lstm-old-peep", "conv-lstm", "the peephole sees the old cell", options(old_peep=True)),
)
