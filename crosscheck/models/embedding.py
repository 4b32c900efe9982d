"""Tables of vectors: lookups, bags, hashed ids, tied outputs and one-hot vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import Params, draw_input, draw_lengths, layer_norm, linear
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

Table = torch.nn.Embedding


def _padded_ids(rng: np.random.Generator, batch: int, steps: int, words: int) -> np.ndarray:
    """Return ids from 1, padded with 0 at the end."""
    ids = rng.integers(1, words, (batch, steps))
    ids[np.arange(steps) >= draw_lengths(rng, batch, steps)[:, None]] = 0
    return ids


def _lookup(params: Params, ids: Any, *, padding: int, block: bool = True) -> Any:
    """No gradient flows to the row of the padding."""
    rows = params["weight"]
    fixed = jnp.where(jnp.arange(len(rows))[:, None] == padding, jax.lax.stop_gradient(rows), rows)
    return nn.Embed(*rows.shape).apply({"params": {"embedding": fixed if block else rows}}, ids)


def _draw_lookup(rng: np.random.Generator) -> Drawn:
    batch, steps, words, size = sizes(rng, 4, 3, 10)
    with seeded(rng):
        module = Table(words, size, padding_idx=0)
        torch.nn.init.normal_(module.weight)
    return Drawn(partial(_lookup, padding=0), module, (_padded_ids(rng, batch, steps, words),))


def _bag(
    params: Params,
    ids: Any,
    weights: Any,
    *,
    mode: str,
    count: Callable[[Any], Any] | None = None,
    weigh: bool = True,
) -> Any:
    real = jnp.asarray(ids) != 0
    rows = jnp.where(real[..., None], params["weight"][ids], 0)
    if mode == "sum":
        return (rows * weights[..., None]).sum(1) if weigh else rows.sum(1)
    total = real.sum(1) if count is None else count(real)
    return rows.sum(1) / total[:, None]


def _bag_torch(m: Any, ids: Any, weights: Any, *, mode: str) -> Any:
    """The bags are ragged in torch: one long list, and where each bag begins."""
    real = ids != 0
    counts = real.sum(1)
    offsets = counts.cumsum(0) - counts
    return m(ids[real], offsets, per_sample_weights=weights[real] if mode == "sum" else None)


def _draw_bag(rng: np.random.Generator, mode: str) -> Drawn:
    batch, steps, words, size = sizes(rng, 4, 3, 10)
    with seeded(rng):
        module = torch.nn.EmbeddingBag(words, size, mode=mode)
    ids, weights = _padded_ids(rng, batch, steps, words), draw_input(rng, batch, steps)
    options: dict[str, Any] = {"torch_fn": partial(_bag_torch, mode=mode)}
    if mode == "mean":
        options["wrt"] = ("weight",)
    return Drawn(partial(_bag, mode=mode), module, (ids, weights), options)


def _hash_torch(m: Any, ids: Any) -> Any:
    """Two hashes of an id into one small table. All integers stay below 2^31."""
    rows = len(m.table.weight)
    return m.table((ids * 1009 + 17) % rows) * m.table((ids * 2003 + 5) % 8191 % rows)


def _hash(params: Params, ids: Any, *, factor: int = 1009) -> Any:
    table = params["table.weight"]
    return table[(ids * factor + 17) % len(table)] * table[(ids * 2003 + 5) % 8191 % len(table)]


def _wide_hash_torch(m: Any, ids: Any) -> Any:
    return m.table((ids * 48271) % len(m.table.weight))


def _by_parts(ids: Any, rows: int) -> Any:
    """Return 48271 ids modulo ``rows``, and never leave int32."""
    return ((ids % rows) * (48271 % rows)) % rows


def _wide_hash(params: Params, ids: Any, *, product: Callable[[Any, int], Any] = _by_parts) -> Any:
    table = params["table.weight"]
    return table[product(ids, len(table))]


def _draw_hash(rng: np.random.Generator, torch_fn: Callable[..., Any], port: Callable[..., Any], most: int) -> Drawn:
    batch, steps, size = sizes(rng, 3, 2, 6)
    rows = int(rng.choice([7, 9, 10, 11, 13]))  # no power of two, for which an overflow changes nothing
    with seeded(rng):
        module = Calls(torch_fn, table=Table(rows, size))
    return Drawn(port, module, (rng.integers(most // 10, most, (batch, steps)),))


def _tied_torch(m: Any, ids: Any, target: Any) -> Any:
    logits = F.linear(m.norm(torch.tanh(m.hidden(m.words(ids)))), m.words.weight, m.bias)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=m.smoothing)


def _tied(params: Params, ids: Any, target: Any, *, smoothing: float, table: Callable[[Any], Any] = lambda t: t) -> Any:
    words = params["words.weight"]
    hidden = layer_norm(params, "norm", jnp.tanh(linear(params, "hidden", words[ids])))
    log_p = jax.nn.log_softmax(hidden @ table(words).T + params["bias"], axis=-1)
    target = jax.nn.one_hot(target, len(words), dtype=log_p.dtype)
    return -((1 - smoothing) * (target * log_p).sum(-1) + smoothing * log_p.mean(-1)).mean()


def _draw_tied(rng: np.random.Generator) -> Drawn:
    batch, steps, words, size = sizes(rng, 4, 3, 10)
    smoothing = float(rng.choice([0.05, 0.1, 0.2]))
    with seeded(rng):
        parts = {"words": Table(words, size), "hidden": torch.nn.Linear(size, size)}
        bias = torch.nn.Parameter(torch.zeros(words))
        module = Calls(_tied_torch, **parts, norm=torch.nn.LayerNorm(size), bias=bias, smoothing=smoothing)
    ids, target = rng.integers(0, words, (2, batch, steps))
    return Drawn(partial(_tied, smoothing=smoothing), module, (ids, target))


def _one_hot_torch(m: Any, ids: Any) -> Any:
    return torch.relu(m.out(F.one_hot(ids, m.out.in_features).to(m.out.weight.dtype)))


def _one_hot(params: Params, ids: Any, *, shift: int = 0) -> Any:
    """A product with one-hot vectors is a lookup."""
    return jax.nn.relu(params["out.weight"].T[ids + shift] + params["out.bias"])


def _draw_one_hot(rng: np.random.Generator) -> Drawn:
    batch, steps, words, out = sizes(rng, 4, 2, 10)
    with seeded(rng):
        module = Calls(_one_hot_torch, out=torch.nn.Linear(words, out))
    return Drawn(_one_hot, module, (rng.integers(0, words, (batch, steps)),))


def _all(real: Any) -> Any:
    return jnp.full(len(real), real.shape[1])


PAIRS = (
    ModelPair("embedding", "torch.nn.Embedding with padding_idx against flax.linen.Embed", _draw_lookup),
    ModelPair("embedding-bag-sum", "weighted bags with offsets against padded ids", partial(_draw_bag, mode="sum")),
    ModelPair("embedding-bag-mean", "mean bags with offsets against padded ids", partial(_draw_bag, mode="mean")),
    ModelPair(
        "embedding-hashed",
        "two hashes into one table, in small integers",
        partial(_draw_hash, torch_fn=_hash_torch, port=_hash, most=100_000),
    ),
    ModelPair(
        "embedding-hashed-wide",
        "a hash beyond int32, which the port computes in parts",
        partial(_draw_hash, torch_fn=_wide_hash_torch, port=_wide_hash, most=10_000_000),
    ),
    ModelPair("embedding-tied", "a tied output and a smoothed cross-entropy", _draw_tied),
    ModelPair("one-hot", "a product with one-hot vectors against a gather", _draw_one_hot),
)
MISTAKES = (
    Mistake("embedding-padding-learns", "embedding", "the padding's row has a gradient", options(block=False)),
    Mistake(
        "embedding-no-padding",
        "embedding",
        "the padding's row has a gradient",
        with_input(0, lambda ids: np.maximum(ids, 1), options(block=False)),
        hidden_by="no id is the padding",
        answer="no index is the padding index 0",
    ),
    Mistake("bag-mean-of-all", "embedding-bag-mean", "the mean counts the padding", options(count=_all)),
    Mistake("bag-no-weights", "embedding-bag-sum", "weights are ignored", options(weigh=False)),
    Mistake(
        "bag-full",
        "embedding-bag-mean",
        "the mean counts the padding",
        with_input(0, lambda ids: np.maximum(ids, 1), options(count=_all)),
        hidden_by="no bag is padded",
        answer="a mask that chooses numbers is true everywhere",
    ),
    Mistake(
        "embedding-hash-overflow",
        "embedding-hashed-wide",
        "the product leaves int32 if ids are int32, as they are outside of x64 mode",
        options(product=lambda ids, rows: (ids * 48271) % rows),
    ),
    Mistake(
        "embedding-hash-overflow-int32",
        "embedding-hashed-wide",
        "the product leaves int32, in which ids are asked for",
        options(product=lambda ids, rows: (jnp.asarray(ids, jnp.int32) * 48271) % rows),
    ),
    Mistake("hash-factor", "embedding-hashed", "the factor is 1010", options(factor=1010)),
    Mistake(
        "tied-no-gradient",
        "embedding-tied",
        "no gradient flows through the output",
        options(table=jax.lax.stop_gradient),
    ),
    Mistake("tied-no-smoothing", "embedding-tied", "the label smoothing is missing", options(smoothing=0.0)),
    Mistake("one-hot-shift", "one-hot", "ids count from 1", options(shift=-1)),
)
