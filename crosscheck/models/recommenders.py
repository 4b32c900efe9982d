"""Recommenders: word2vec, matrix factorisation, DeepFM and two towers, with their losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import Params, draw_input, linear
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L, Table = torch.nn.Linear, torch.nn.Embedding


def _skip_gram_torch(m: Any, word: Any, near: Any, noise: Any) -> Any:
    """Word2vec with negative samples."""
    centre = m.words(word)
    positive = F.logsigmoid((centre * m.contexts(near)).sum(-1))
    negative = F.logsigmoid(-torch.einsum("bd,bnd->bn", centre, m.contexts(noise))).sum(-1)
    return -(positive + negative).mean()


def _skip_gram(
    params: Params,
    word: Any,
    near: Any,
    noise: Any,
    *,
    sign: int = -1,
    reduce: Callable[..., Any] = jnp.sum,
    tables: tuple[str, str] = ("words", "contexts"),
) -> Any:
    words, contexts = (params[f"{name}.weight"] for name in tables)
    positive = jax.nn.log_sigmoid((words[word] * contexts[near]).sum(-1))
    scores = jnp.einsum("bd,bnd->bn", words[word], contexts[noise])
    return -(positive + reduce(jax.nn.log_sigmoid(sign * scores), axis=-1)).mean()


def _draw_skip_gram(rng: np.random.Generator) -> Drawn:
    batch, count, size, words = sizes(rng, 4, 2, 10)
    with seeded(rng):
        module = Calls(_skip_gram_torch, words=Table(words, size), contexts=Table(words, size))
    word, near = rng.integers(0, words, (2, batch))
    return Drawn(_skip_gram, module, (word, near, rng.integers(0, words, (batch, count))))


def _factors_torch(m: Any, user: Any, item: Any, rating: Any) -> Any:
    p, q = m.users(user), m.items(item)
    guess = m.mean + m.user_bias(user)[:, 0] + m.item_bias(item)[:, 0] + (p * q).sum(-1)
    penalty = (p**2).sum(-1) + (q**2).sum(-1)
    return F.mse_loss(guess, rating) + m.decay * penalty.mean(), guess


def _factors(
    params: Params, user: Any, item: Any, rating: Any, *, decay: float, reduce: Callable[[Any], Any] = jnp.mean
) -> Any:
    p, q = params["users.weight"][user], params["items.weight"][item]
    biases = params["user_bias.weight"][user, 0] + params["item_bias.weight"][item, 0]
    guess = params["mean"] + biases + jnp.einsum("bd,bd->b", p, q)
    penalty = decay * ((p**2).sum(-1) + (q**2).sum(-1))
    return reduce((guess - rating) ** 2) + penalty.mean(), guess


def _draw_factors(rng: np.random.Generator) -> Drawn:
    batch, users, items, size = sizes(rng, 4, 2, 10)
    decay = float(rng.choice([0.01, 0.1]))
    with seeded(rng):
        tables = {"users": Table(users, size), "items": Table(items, size)}
        tables |= {"user_bias": Table(users, 1), "item_bias": Table(items, 1)}
        module = Calls(_factors_torch, **tables, mean=torch.nn.Parameter(torch.tensor(3.5)), decay=decay)
    inputs = (rng.integers(0, users, batch), rng.integers(0, items, batch), rng.integers(1, 6, batch).astype(float))
    return Drawn(partial(_factors, decay=decay), module, inputs, {"output_names": ("loss", "guess")})


def _one_rating(drawn: Drawn) -> Drawn:
    """Keep one rating, and let the port sum over ratings."""
    return options(reduce=jnp.sum)(replace(drawn, inputs=tuple(a[:1] for a in drawn.inputs)))


def _deep_fm_torch(m: Any, ids: Any, dense: Any, clicked: Any) -> Any:
    """A factorisation machine and a network on the same embeddings, and the logistic loss."""
    rows = ids + torch.tensor(m.starts)
    vectors = m.vectors(rows)
    pairs = 0.5 * (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(-1)
    deep = m.deep(torch.cat([vectors.flatten(1), dense], -1))[:, 0]
    score = m.first(rows).sum((1, 2)) + pairs + deep
    return F.binary_cross_entropy_with_logits(score, clicked), score


def _deep_fm(
    params: Params, ids: Any, dense: Any, clicked: Any, *, starts: np.ndarray, half: float = 0.5, moved: bool = True
) -> Any:
    rows = ids + starts if moved else ids
    vectors = params["vectors.weight"][rows]
    fields = vectors.shape[1]
    gram = jnp.einsum("bfd,bgd->bfg", vectors, vectors)
    pairs = half * (gram * (1 - np.eye(fields, dtype=np.float32))).sum((1, 2))
    hidden = jnp.concatenate([vectors.reshape(len(ids), -1), dense], -1)
    deep = linear(params, "deep.2", jax.nn.relu(linear(params, "deep.0", hidden)))[:, 0]
    score = params["first.weight"][rows].sum((1, 2)) + pairs + deep
    return optax.sigmoid_binary_cross_entropy(score, clicked).mean(), score


def _draw_deep_fm(rng: np.random.Generator) -> Drawn:
    batch, fields, size, numbers, hidden = sizes(rng, 5, 2, 8)
    counts = rng.integers(2, 6, fields)
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    rows = int(counts.sum())
    with seeded(rng):
        deep = torch.nn.Sequential(L(fields * size + numbers, hidden), torch.nn.ReLU(), L(hidden, 1))
        module = Calls(_deep_fm_torch, vectors=Table(rows, size), first=Table(rows, 1), deep=deep, starts=starts)
    inputs = (
        rng.integers(0, counts, (batch, fields)),
        draw_input(rng, batch, numbers),
        rng.integers(0, 2, batch) * 1.0,
    )
    return Drawn(partial(_deep_fm, starts=starts), module, inputs, {"output_names": ("loss", "score")})


def _towers_torch(m: Any, user: Any, item: Any) -> Any:
    """Two towers, and the softmax of CLIP over the batch in both directions."""
    u, v = F.normalize(m.user(user), dim=-1), F.normalize(m.item(item), dim=-1)
    logits = u @ v.T * m.scale.exp()
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _unit(x: Any) -> Any:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _towers(params: Params, user: Any, item: Any, *, both: bool = True, normal: Callable[[Any], Any] = _unit) -> Any:
    def tower(name: str, x: Any) -> Any:
        return normal(linear(params, f"{name}.2", jnp.tanh(linear(params, f"{name}.0", x))))

    logits = tower("user", user) @ tower("item", item).T * jnp.exp(params["scale"])
    losses = [optax.losses.softmax_cross_entropy_with_integer_labels(a, jnp.arange(len(a))) for a in (logits, logits.T)]
    return (losses[0].mean() + losses[1 if both else 0].mean()) / 2


def _draw_towers(rng: np.random.Generator) -> Drawn:
    batch, user, item, hidden, out = sizes(rng, 5, 2, 10)
    with seeded(rng):
        towers = {
            name: torch.nn.Sequential(L(size, hidden), torch.nn.Tanh(), L(hidden, out))
            for name, size in (("user", user), ("item", item))
        }
        module = Calls(_towers_torch, **towers, scale=torch.nn.Parameter(torch.tensor(np.log(10)).float()))
    unkind = ("offset", "quantised")
    return Drawn(_towers, module, tuple(draw_input(rng, batch, n, unkind=unkind) for n in (user, item)))


PAIRS = (
    ModelPair("word2vec", "skip-gram with negative samples", _draw_skip_gram),
    ModelPair("matrix-factorisation", "ratings by factors and biases, with a penalty", _draw_factors),
    ModelPair("deep-fm", "DeepFM, whose pairs are a square of sums against a sum of products", _draw_deep_fm),
    ModelPair("two-towers", "two towers with CLIP's loss over the batch", _draw_towers),
)
MISTAKES = (
    Mistake("word2vec-sign", "word2vec", "negative samples have the sign of positive ones", options(sign=1)),
    Mistake("word2vec-mean", "word2vec", "negative samples are averaged", options(reduce=jnp.mean)),
    Mistake("word2vec-swapped", "word2vec", "the tables are swapped", options(tables=("contexts", "words"))),
    Mistake("factors-sum", "matrix-factorisation", "errors are summed", options(reduce=jnp.sum)),
    Mistake(
        "factors-one-rating",
        "matrix-factorisation",
        "errors are summed",
        _one_rating,
        hidden_by="the batch has one rating",
        answer="'rating' has length 1 in axis 0",
    ),
    Mistake("deep-fm-half", "deep-fm", "pairs count twice", options(half=1.0)),
    Mistake("deep-fm-rows", "deep-fm", "all fields share the first rows", options(moved=False)),
    Mistake("two-towers-one-way", "two-towers", "the loss runs over items only", options(both=False)),
    Mistake("two-towers-not-normal", "two-towers", "vectors are not normalised", options(normal=lambda x: x)),
)
