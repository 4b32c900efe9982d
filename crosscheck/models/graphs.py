"""Graphs: sums over neighbours, messages along edges, and attention over edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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

L, Sequential, ReLU = torch.nn.Linear, torch.nn.Sequential, torch.nn.ReLU


def _gcn_torch(m: Any, x: Any, adjacency: Any) -> Any:
    """Two layers of a graph convolution, with self loops and symmetric normalisation."""
    a = adjacency + torch.eye(x.shape[1], dtype=x.dtype)
    root = a.sum(-1).rsqrt()
    a = root[:, :, None] * a * root[:, None]
    return m.second(a @ torch.relu(m.first(a @ x)))


def _gcn(params: Params, x: Any, adjacency: Any, *, loops: float = 1.0, both: bool = True) -> Any:
    a = adjacency + loops * jnp.eye(x.shape[1], dtype=x.dtype)
    degree = a.sum(-1)
    a = a / jnp.sqrt(degree[:, :, None] * degree[:, None]) if both else a / degree[:, :, None]
    hidden = jax.nn.relu(jnp.einsum("bij,bjd->bid", a, x) @ params["first.weight"].T + params["first.bias"])
    return linear(params, "second", a @ hidden)


def _draw_gcn(rng: np.random.Generator) -> Drawn:
    batch, nodes, size, hidden, out = sizes(rng, 5, 2, 8)
    nodes = max(nodes, 3)  # two nodes have the same degree
    with seeded(rng):
        module = Calls(_gcn_torch, first=L(size, hidden), second=L(hidden, out))
    weights = np.triu(rng.random((batch, nodes, nodes)) * (rng.random((batch, nodes, nodes)) < 0.7), 1)
    weights[:, 0, 1] = 0.5
    adjacency = weights + weights.swapaxes(1, 2)
    x = draw_input(rng, batch, nodes, size)
    return Drawn(_gcn, module, (x, adjacency), {"wrt": (*(n for n, _ in module.named_parameters()), "x")})


def _messages_torch(m: Any, x: Any, edge: Any, source: Any, target: Any) -> Any:
    """One round of messages along edges, and a GRU that updates the nodes."""
    message = m.message(torch.cat([x[source], x[target], edge], -1))
    return m.update(torch.zeros(len(x), message.shape[1], dtype=x.dtype).index_add(0, target, message), x)


def _messages(
    params: Params,
    x: Any,
    edge: Any,
    source: Any,
    target: Any,
    *,
    gather: Callable[..., Any] = jax.ops.segment_sum,
    backwards: bool = False,
) -> Any:
    source, target = (target, source) if backwards else (source, target)
    hidden = jax.nn.relu(linear(params, "message.0", jnp.concatenate([x[source], x[target], edge], axis=-1)))
    total = gather(linear(params, "message.2", hidden), target, num_segments=len(x))
    gates = zip(
        jnp.split(total @ params["update.weight_ih"].T + params["update.bias_ih"], 3, axis=-1),
        jnp.split(x @ params["update.weight_hh"].T + params["update.bias_hh"], 3, axis=-1),
        strict=True,
    )
    (r, r_h), (z, z_h), (n, n_h) = gates
    z = jax.nn.sigmoid(z + z_h)
    return (1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + r_h) * n_h) + z * x


def _segment_mean(values: Any, segments: Any, num_segments: int) -> Any:
    counts = jax.ops.segment_sum(jnp.ones(len(values), values.dtype), segments, num_segments)
    return jax.ops.segment_sum(values, segments, num_segments) / jnp.maximum(counts, 1)[:, None]


def _draw_messages(rng: np.random.Generator) -> Drawn:
    """There are more edges than nodes, so that some node receives several messages."""
    nodes, size, edge_size, hidden = sizes(rng, 4, 2, 8)
    edges = 2 * nodes + int(rng.integers(1, 6))
    with seeded(rng):
        message = Sequential(L(2 * size + edge_size, hidden), ReLU(), L(hidden, hidden))
        module = Calls(_messages_torch, message=message, update=torch.nn.GRUCell(hidden, size))
    source, target = rng.integers(0, nodes, (2, edges))
    x, edge = draw_input(rng, nodes, size), draw_input(rng, edges, edge_size)
    return Drawn(_messages, module, (x, edge, source, target))


def _one_message(drawn: Drawn) -> Drawn:
    """Let every node receive one message, and let the port average messages."""
    x, edge, source, _ = drawn.inputs
    inputs = (x, edge[: len(x)], source[: len(x)], np.arange(len(x))[::-1].copy())
    return options(gather=_segment_mean)(replace(drawn, inputs=inputs))


def _gat_torch(m: Any, x: Any, source: Any, target: Any) -> Any:
    """Graph attention with a softmax over the edges that reach a node, as in PyTorch Geometric."""
    h = m.lin(x).unflatten(-1, (m.heads, -1))
    scores = (h * m.att_source).sum(-1)[source] + (h * m.att_target).sum(-1)[target]
    scores = F.leaky_relu(scores, 0.2)
    place = target[:, None].expand_as(scores)
    top = torch.full((len(x), m.heads), -torch.inf, dtype=x.dtype).scatter_reduce(0, place, scores.detach(), "amax")
    weights = torch.exp(scores - top[target])
    total = torch.zeros_like(top).index_add(0, target, weights)
    weights = weights / (total[target] + 1e-16)
    out = torch.zeros_like(h).index_add(0, target, h[source] * weights[..., None])
    return out.flatten(1) + m.bias


def _gat(
    params: Params, x: Any, source: Any, target: Any, *, heads: int, slope: float = 0.2, swapped: bool = False
) -> Any:
    """Everything is dense: counts of edges are the weights of a softmax over all nodes."""
    nodes = len(x)
    h = linear(params, "lin", x).reshape(nodes, heads, -1)
    count = jnp.zeros((nodes, nodes), x.dtype).at[target, source].add(1)
    to = (h * params["att_target"]).sum(-1)
    by = (h * params["att_source"]).sum(-1)
    scores = jax.nn.leaky_relu(by[:, None] + to[None] if swapped else to[:, None] + by[None], slope)
    scores = jnp.where(count[..., None] > 0, scores + jnp.log(jnp.maximum(count, 1))[..., None], -jnp.inf)
    return jnp.einsum("ijh,jhd->ihd", jax.nn.softmax(scores, axis=1), h).reshape(nodes, -1) + params["bias"]


def _draw_gat(rng: np.random.Generator) -> Drawn:
    nodes, size, heads, out = sizes(rng, 4, 2, 8)
    with seeded(rng):
        weights = {f"att_{end}": torch.nn.Parameter(torch.randn(1, heads, out)) for end in ("source", "target")}
        bias = torch.nn.Parameter(torch.randn(heads * out))
        module = Calls(_gat_torch, lin=L(size, heads * out, bias=False), **weights, bias=bias, heads=heads)
    source, target = rng.integers(0, nodes, (2, 2 * nodes))
    loops = np.arange(nodes)
    inputs = (np.concatenate([source, loops]), np.concatenate([target, loops]))
    x = draw_input(rng, nodes, size, unkind=("quantised", "small"))
    return Drawn(partial(_gat, heads=heads), module, (x, *inputs))


PAIRS = (
    ModelPair("gcn", "two graph convolutions with a dense adjacency", _draw_gcn),
    ModelPair("message-passing", "messages by index_add against segment_sum, and a GRU", _draw_messages),
    ModelPair("gat", "graph attention over edges against a dense softmax", _draw_gat),
)
MISTAKES = (
    Mistake("gcn-loops-twice", "gcn", "self loops are added twice", options(loops=2.0)),
    Mistake("gcn-one-side", "gcn", "rows are normalised, and columns are not", options(both=False)),
    Mistake("messages-backwards", "message-passing", "messages go against the edges", options(backwards=True)),
    Mistake("messages-mean", "message-passing", "messages are averaged", options(gather=_segment_mean)),
    Mistake(
        "messages-one",
        "message-passing",
        "messages are averaged",
        _one_message,
        hidden_by="every node receives one message",
        answer="no index of index_add stands twice",
    ),
    Mistake("gat-slope", "gat", "the slope of the leaky ReLU is jax.nn's default, 0.01", options(slope=0.01)),
    Mistake("gat-ends", "gat", "the two vectors of attention are swapped", options(swapped=True)),
)
