"""Models that decode sequences: an encoder and decoder, pointers, and conditional random fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crosscheck.models.building_blocks import Params, draw_input, draw_lengths, draw_valid, linear
from crosscheck.models.changing import options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L = torch.nn.Linear


def _seq2seq_torch(m: Any, source: Any, lengths: Any, target: Any) -> Any:
    """A GRU reads packed sequences, and another one that attends to them is taught token by token; 0 is padding."""
    packed = pack_padded_sequence(m.words(source), lengths, batch_first=True, enforce_sorted=False)
    memory, last = m.encoder(packed)
    memory, _ = pad_packed_sequence(memory, batch_first=True, total_length=source.shape[1])
    hidden = torch.arange(source.shape[1]) >= lengths[:, None]
    h, logits = torch.tanh(m.bridge(last[0])), []
    for t in range(target.shape[1] - 1):
        scores = m.score(torch.tanh(m.query(h)[:, None] + m.key(memory)))[..., 0]
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        context = torch.einsum("bs,bsd->bd", weights, memory)
        h = m.decoder(torch.cat([m.words(target[:, t]), context], -1), h)
        logits.append(m.out(torch.cat([h, context], -1)))
    stacked = torch.stack(logits, 1)
    return F.cross_entropy(stacked.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0), stacked


def _gru(params: Params, name: str, suffix: str, x: Any, h: Any) -> Any:
    kinds = ("ih", "hh")
    w_in, w_h = (params[f"{name}.weight_{kind}{suffix}"] for kind in kinds)
    b_in, b_h = (params[f"{name}.bias_{kind}{suffix}"] for kind in kinds)
    (r, z, n), (r_h, z_h, n_h) = jnp.split(x @ w_in.T + b_in, 3, -1), jnp.split(h @ w_h.T + b_h, 3, -1)
    r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
    return (1 - z) * jnp.tanh(n + r * n_h) + z * h


def _seq2seq(
    params: Params,
    source: Any,
    lengths: Any,
    target: Any,
    *,
    hold: bool = True,
    mean: Callable[[Any, Any], Any] = lambda loss, real: jnp.where(real, loss, 0).sum() / real.sum(),
    early: int = 0,
) -> Any:
    words, steps = params["words.weight"], source.shape[1]
    valid = jnp.arange(steps) < jnp.asarray(lengths)[:, None]

    def read(h: Any, now: tuple[Any, Any]) -> tuple[Any, Any]:
        x, keep = now
        new = _gru(params, "encoder", "_l0", x, h)
        return jnp.where(keep[:, None] | (not hold), new, h), jnp.where(keep[:, None], new, 0)

    first = jnp.zeros((len(source), params["encoder.weight_hh_l0"].shape[1]), words.dtype)
    last, memory = jax.lax.scan(read, first, (words[source].swapaxes(0, 1), valid.T))
    memory = memory.swapaxes(0, 1)
    key = linear(params, "key", memory)

    def write(h: Any, token: Any) -> tuple[Any, Any]:
        scores = linear(params, "score", jnp.tanh(linear(params, "query", h)[:, None] + key))[..., 0]
        context = jnp.einsum("bs,bsd->bd", jax.nn.softmax(jnp.where(valid, scores, -jnp.inf)), memory)
        h = _gru(params, "decoder", "", jnp.concatenate([words[token], context], -1), h)
        return h, linear(params, "out", jnp.concatenate([h, context], -1))

    told = target[:, early : target.shape[1] - 1 + early]
    _, logits = jax.lax.scan(write, jnp.tanh(linear(params, "bridge", last)), told.T)
    logits, truth = logits.swapaxes(0, 1), target[:, 1:]
    return mean(optax.softmax_cross_entropy_with_integer_labels(logits, truth), truth != 0), logits


def _mean_of_all(loss: Any, real: Any) -> Any:
    return jnp.where(real, loss, 0).mean()


def _draw_seq2seq(rng: np.random.Generator) -> Drawn:
    batch, steps, size, hidden, words = sizes(rng, 5, 3, 8)
    with seeded(rng):
        layers = {"key": L(hidden, size), "query": L(hidden, size, bias=False), "score": L(size, 1, bias=False)}
        layers |= {"bridge": L(hidden, hidden), "out": L(2 * hidden, words)}
        cells = {
            "encoder": torch.nn.GRU(size, hidden, batch_first=True),
            "decoder": torch.nn.GRUCell(size + hidden, hidden),
        }
        module = Calls(_seq2seq_torch, words=torch.nn.Embedding(words, size), **layers, **cells)
    length = int(rng.integers(4, 7))
    source, target = (rng.integers(1, words, (batch, n)) for n in (steps, length))
    lengths = draw_lengths(rng, batch, steps)
    source[np.arange(steps) >= lengths[:, None]] = 0
    target[np.arange(length) >= draw_lengths(rng, batch, length - 1)[:, None] + 1] = 0
    return Drawn(_seq2seq, module, (source, lengths, target), {"output_names": ("loss", "logits")})


def _pointer_torch(m: Any, states: Any, memory: Any, chosen: Any) -> Any:
    """Log-probabilities of pointers into the memory; a place that was chosen before is hidden."""
    scores = m.v(torch.tanh(m.w1(memory)[:, None] + m.w2(states)[:, :, None]))[..., 0]
    used = F.one_hot(chosen, memory.shape[1]).cumsum(1) - F.one_hot(chosen, memory.shape[1])
    log_p = scores.masked_fill(used > 0, -torch.inf).log_softmax(-1)
    return log_p.gather(-1, chosen[..., None])[..., 0].sum(-1)


def _pointer(params: Params, states: Any, memory: Any, chosen: Any, *, hide: bool = True) -> Any:
    mixed = jnp.tanh(linear(params, "w1", memory)[:, None] + linear(params, "w2", states)[:, :, None])
    scores = linear(params, "v", mixed)[..., 0]
    picked = jax.nn.one_hot(chosen, memory.shape[1], dtype=jnp.int32)
    used = jnp.cumsum(picked, axis=1) - picked
    log_p = jax.nn.log_softmax(jnp.where(used > 0, -jnp.inf, scores) if hide else scores, axis=-1)
    return jnp.take_along_axis(log_p, jnp.asarray(chosen)[..., None], axis=-1)[..., 0].sum(-1)


def _draw_pointer(rng: np.random.Generator) -> Drawn:
    batch, steps, size, hidden = sizes(rng, 4, 3, 8)
    with seeded(rng):
        module = Calls(_pointer_torch, w1=L(size, hidden), w2=L(size, hidden, bias=False), v=L(hidden, 1, bias=False))
    chosen = np.stack([rng.permutation(steps + 1)[:steps] for _ in range(batch)])
    inputs = (draw_input(rng, batch, steps, size), draw_input(rng, batch, steps + 1, size), chosen)
    return Drawn(_pointer, module, inputs)


def _crf_torch(m: Any, emissions: Any, tags: Any, valid: Any) -> Any:
    """The negative log-likelihood of a linear-chain CRF, per sequence."""
    alpha = m.start + emissions[:, 0]
    score = m.start[tags[:, 0]] + emissions[:, 0].gather(1, tags[:, :1])[:, 0]
    for t in range(1, emissions.shape[1]):
        new = torch.logsumexp(alpha[:, :, None] + m.moves + emissions[:, t, None], 1)
        alpha = torch.where(valid[:, t, None], new, alpha)
        step = m.moves[tags[:, t - 1], tags[:, t]] + emissions[:, t].gather(1, tags[:, t, None])[:, 0]
        score = score + step * valid[:, t]
    last = tags.gather(1, valid.sum(1, keepdim=True) - 1)[:, 0]
    return torch.logsumexp(alpha + m.end, 1) - score - m.end[last]


def _crf(
    params: Params,
    emissions: Any,
    tags: Any,
    valid: Any,
    *,
    moves: Callable[[Any], Any] = lambda m: m,
    cut: bool = True,
) -> Any:
    transitions, rows = moves(params["moves"]), jnp.arange(len(tags))
    valid = jnp.asarray(valid if cut else np.ones_like(valid))

    def step(alpha: Any, now: tuple[Any, Any]) -> tuple[Any, None]:
        emission, keep = now
        new = jax.nn.logsumexp(alpha[:, :, None] + transitions, axis=1) + emission
        return jnp.where(keep[:, None], new, alpha), None

    later = (emissions[:, 1:].swapaxes(0, 1), valid[:, 1:].T)
    alpha, _ = jax.lax.scan(step, params["start"] + emissions[:, 0], later)
    own = jnp.take_along_axis(emissions, jnp.asarray(tags)[..., None], -1)[..., 0]
    score = params["start"][tags[:, 0]] + jnp.where(valid, own, 0).sum(1)
    score += jnp.where(valid[:, 1:], transitions[tags[:, :-1], tags[:, 1:]], 0).sum(1)
    last = jnp.asarray(tags)[rows, valid.sum(1) - 1]
    return jax.nn.logsumexp(alpha + params["end"], axis=1) - score - params["end"][last]


def _draw_crf(rng: np.random.Generator) -> Drawn:
    batch, steps, tags = sizes(rng, 3, 3, 9)
    with seeded(rng):
        shapes = {"start": (tags,), "end": (tags,), "moves": (tags, tags)}
        module = Calls(_crf_torch, **{name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})
    emissions = draw_input(rng, batch, steps, tags)
    return Drawn(_crf, module, (emissions, rng.integers(0, tags, (batch, steps)), draw_valid(rng, batch, steps)))


PAIRS = (
    ModelPair("seq2seq", "a GRU that attends to another one's states, taught with padded targets", _draw_seq2seq),
    ModelPair("pointer-network", "log-probabilities of pointers without repetition", _draw_pointer),
    ModelPair("crf", "the log-likelihood of a conditional random field", _draw_crf),
)
MISTAKES = (
    Mistake("seq2seq-last-padded", "seq2seq", "the encoder runs on over the padding", options(hold=False)),
    Mistake(
        "seq2seq-mean",
        "seq2seq",
        "the loss is averaged over the padding too",
        options(mean=_mean_of_all),
    ),
    Mistake("seq2seq-told", "seq2seq", "the decoder is told the token that it is to predict", options(early=1)),
    Mistake("pointer-repeats", "pointer-network", "places may be chosen again", options(hide=False)),
    Mistake("crf-transposed", "crf", "transitions are from the next tag", options(moves=jnp.transpose)),
    Mistake(
        "crf-no-mask",
        "crf",
        "the mask is ignored",
        with_input(2, np.ones_like, options(cut=False)),
        hidden_by="every position is valid",
        answer="every number of 'valid' is True",
    ),
)
