"""Recurrent networks of torch.nn against scans, flax and equinox cells, and cells written by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import Params, draw_input, flip, layer_norm, linear
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L = torch.nn.Linear
Cell = Callable[[Any, Any, Any, Any], Any]  # (input gates, state, recurrent weight, recurrent bias) -> state


def _rnn_cell(gates: Any, h: Any, weight: Any, bias: Any, *, act: Callable[[Any], Any] = jnp.tanh) -> Any:
    return act(gates + h @ weight.T + bias)


def _gru_cell(gates: Any, h: Any, weight: Any, bias: Any) -> Any:
    r_in, z_in, n_in = jnp.split(gates, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(h @ weight.T + bias, 3, axis=-1)
    r, z = jax.nn.sigmoid(r_in + r_h), jax.nn.sigmoid(z_in + z_h)
    return (1 - z) * jnp.tanh(n_in + r * n_h) + z * h


def _gru_cell_reset_first(gates: Any, h: Any, weight: Any, bias: Any) -> Any:
    """Reset the state before the product, as in the paper and in Keras 1."""
    size = h.shape[-1]
    rz = jax.nn.sigmoid(gates[..., : 2 * size] + h @ weight[: 2 * size].T + bias[: 2 * size])
    r, z = jnp.split(rz, 2, axis=-1)
    n = jnp.tanh(gates[..., 2 * size :] + (r * h) @ weight[2 * size :].T + bias[2 * size :])
    return (1 - z) * n + z * h


def _gru_cell_other_gate(gates: Any, h: Any, weight: Any, bias: Any) -> Any:
    new = _gru_cell(gates, h, weight, bias)
    r_z = jax.nn.sigmoid(gates + h @ weight.T + bias)
    z = jnp.split(r_z, 3, axis=-1)[1]
    n = (new - z * h) / (1 - z)
    return z * n + (1 - z) * h


def _stack(
    params: Params, x: Any, h0: Any, *, cell: Cell, layers: int, suffixes: tuple[str, ...], flipped_back: bool = True
) -> tuple[Any, Any]:
    """Run layers in both directions. ``x`` is `[T, B, D]`, ``h0`` is `[layers * directions, B, H]`."""
    last: list[Any] = []
    for layer in range(layers):
        outs = []
        for suffix in suffixes:
            names = [f"{kind}_l{layer}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            w_in, w_h = (params[name] for name in names[:2])
            b_in, b_h = (params.get(name, jnp.zeros(len(w_in), x.dtype)) for name in names[2:])
            gates = (x[::-1] if suffix else x) @ w_in.T + b_in
            step = lambda h, g, w=w_h, b=b_h: (cell(g, h, w, b),) * 2
            h, out = jax.lax.scan(step, h0[len(last)], gates)
            outs.append(out[::-1] if suffix and flipped_back else out)
            last.append(h)
        x = jnp.concatenate(outs, -1)
    return x, jnp.stack(last)


def _draw_stack(rng: np.random.Generator, gru: bool) -> Drawn:
    batch, size, hidden, steps = sizes(rng, 4, 2, 9)
    layers, both, act = int(rng.integers(1, 3)), flip(rng), str(rng.choice(["tanh", "relu"]))
    options: dict[str, Any] = {"bias": flip(rng, 0.7), "bidirectional": both}
    with seeded(rng):
        if gru:
            module: torch.nn.Module = torch.nn.GRU(size, hidden, layers, **options)
        else:
            module = torch.nn.RNN(size, hidden, layers, act, **options)
    cell = _gru_cell if gru else partial(_rnn_cell, act={"tanh": jnp.tanh, "relu": jax.nn.relu}[act])
    suffixes = ("", "_reverse") if both else ("",)
    x = draw_input(rng, steps, batch, size, unkind=("quantised", "small"))
    h0 = rng.normal(size=(layers * len(suffixes), batch, hidden)) * (not flip(rng, 0.2))
    port = partial(_stack, cell=cell, layers=layers, suffixes=suffixes)
    return Drawn(port, module, (x, h0), {"output_names": ("out", "h_n")})


def _both_torch(m: Any, x: Any) -> Any:
    out, last = m.rnn(x)
    return m.head(torch.cat([last[-2], last[-1]], -1)), out


def _both(params: Params, x: Any, *, flipped_back: bool = True) -> Any:
    names = {name.removeprefix("rnn."): a for name, a in params.items()}
    h0 = jnp.zeros((2, x.shape[1], params["rnn.weight_hh_l0"].shape[1]), x.dtype)
    out, last = _stack(names, x, h0, cell=_rnn_cell, layers=1, suffixes=("", "_reverse"), flipped_back=flipped_back)
    return linear(params, "head", jnp.concatenate([last[0], last[1]], -1)), out


def _draw_both(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, steps = sizes(rng, 4, 2, 8)
    with seeded(rng):
        module = Calls(_both_torch, rnn=torch.nn.RNN(size, hidden, bidirectional=True), head=L(2 * hidden, 3))
    return Drawn(_both, module, (draw_input(rng, steps, batch, size, unkind=("quantised", "small")),))


def _linen_gru(params: Params, x: Any, h0: Any) -> tuple[Any, Any]:
    """flax has one bias in place of torch's two, except in the gate n."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w_in, w_h, b_in, b_h = (jnp.split(params[name], 3) for name in names)
    tree = {f"i{g}": {"kernel": w_in[n].T, "bias": b_in[n] + (b_h[n] if n < 2 else 0)} for n, g in enumerate("rzn")}
    tree |= {"hr": {"kernel": w_h[0].T}, "hz": {"kernel": w_h[1].T}, "hn": {"kernel": w_h[2].T, "bias": b_h[2]}}
    cell = nn.GRUCell(h0.shape[-1])
    last, out = jax.lax.scan(lambda h, now: cell.apply({"params": tree}, h, now), h0[0], x.swapaxes(0, 1))
    return out.swapaxes(0, 1), last[None]


def _draw_linen_gru(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, steps = sizes(rng, 4, 2, 9)
    with seeded(rng):
        module = torch.nn.GRU(size, hidden, batch_first=True)
    x = draw_input(rng, batch, steps, size, unkind=("quantised", "small", "zeros"))
    return Drawn(_linen_gru, module, (x, rng.normal(size=(1, batch, hidden))))


def _equinox_gru(params: Params, x: Any, h: Any, *, two_biases: bool = True) -> Any:
    """Equinox has one bias of three gates, and another one of n only."""
    hidden = h.shape[-1]
    cell = eqx.nn.GRUCell(x.shape[-1], hidden, key=jax.random.key(0))
    extra = jnp.concatenate([params["bias_hh"][: 2 * hidden], jnp.zeros(hidden, x.dtype)])
    bias = params["bias_ih"] + (extra if two_biases else params["bias_hh"])
    leaves = (params["weight_ih"], params["weight_hh"], bias, params["bias_hh"][2 * hidden :])
    cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n), cell, leaves)
    return jax.vmap(cell)(x, h)


def _draw_equinox_gru(rng: np.random.Generator) -> Drawn:
    batch, size, hidden = sizes(rng, 3, 2, 12)
    with seeded(rng):
        module = torch.nn.GRUCell(size, hidden)
    x = draw_input(rng, batch, size, unkind=("quantised", "small", "offset"))
    return Drawn(_equinox_gru, module, (x, rng.normal(size=(batch, hidden))))


def _minimal_torch(m: Any, x: Any, reset: Any) -> Any:
    """The minimal gated unit with layer norm, whose state starts again where an episode does."""
    h, outs = x.new_zeros(x.shape[0], m.gate.out_features), []
    for t in range(x.shape[1]):
        h = torch.where(reset[:, t, None], 0.0, h)
        f = torch.sigmoid(m.norm(m.gate(torch.cat([x[:, t], h], -1))))
        h = h + f * (torch.tanh(m.new(torch.cat([x[:, t], f * h], -1))) - h)
        outs.append(h)
    return torch.stack(outs, 1)


def _minimal(
    params: Params, x: Any, reset: Any, *, use: bool = True, forget: Callable[[Any], Any] = lambda f: f
) -> Any:
    def step(h: Any, now: tuple[Any, Any]) -> tuple[Any, Any]:
        x, fresh = now
        h = jnp.where(fresh[:, None], 0, h) if use else h
        f = jax.nn.sigmoid(layer_norm(params, "norm", linear(params, "gate", jnp.concatenate([x, h], -1))))
        new = jnp.tanh(linear(params, "new", jnp.concatenate([x, forget(f) * h], -1)))
        h = (1 - f) * h + f * new
        return h, h

    first = jnp.zeros((x.shape[0], len(params["gate.bias"])), x.dtype)
    return jax.lax.scan(step, first, (x.swapaxes(0, 1), reset.T))[1].swapaxes(0, 1)


def _draw_minimal(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, steps = sizes(rng, 4, 3, 9)
    with seeded(rng):
        layers = {name: L(size + hidden, hidden) for name in ("gate", "new")}
        module = Calls(_minimal_torch, **layers, norm=torch.nn.LayerNorm(hidden))
    reset = rng.random((batch, steps)) < 0.2
    reset[0, 2] = True
    return Drawn(_minimal, module, (draw_input(rng, batch, steps, size, unkind=("small", "zeros")), reset))


PAIRS = (
    ModelPair("rnn", "torch.nn.RNN with layers and directions against scans", partial(_draw_stack, gru=False)),
    ModelPair("gru", "torch.nn.GRU with layers and directions against scans", partial(_draw_stack, gru=True)),
    ModelPair("rnn-both-ends", "a head on the last states of both directions", _draw_both),
    ModelPair("gru-linen", "torch.nn.GRU against flax.linen.GRUCell", _draw_linen_gru),
    ModelPair("gru-cell-equinox", "torch.nn.GRUCell against equinox", _draw_equinox_gru),
    ModelPair("minimal-gated-unit", "a gated unit with layer norm and resets", _draw_minimal),
)
MISTAKES = (
    Mistake("gru-reset-first", "gru", "the reset gate acts before the product", options(cell=_gru_cell_reset_first)),
    Mistake("gru-update-inverted", "gru", "z and 1 - z are swapped", options(cell=_gru_cell_other_gate)),
    Mistake("rnn-not-flipped", "rnn-both-ends", "backward outputs are in reading order", options(flipped_back=False)),
    Mistake("gru-bias-twice", "gru-cell-equinox", "the bias of n is also outside the reset", options(two_biases=False)),
    Mistake("minimal-forget", "minimal-gated-unit", "the new state sees all of the old", options(forget=jnp.ones_like)),
    Mistake("minimal-no-reset", "minimal-gated-unit", "resets are ignored", options(use=False)),
    Mistake(
        "minimal-unused-reset",
        "minimal-gated-unit",
        "resets are ignored",
        with_input(1, np.zeros_like, options(use=False)),
        hidden_by="no episode starts",
        answer="every number of 'reset' is",
    ),
)
