"""Losses of classification: cross entropies, binary ones, margins, and of sequences (CTC)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import around, both, options, other_inputs, other_port
from crosscheck.models.drawing import Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F = torch.nn.functional
IGNORED = -100
REDUCE: dict[str, Callable[[Any], Any]] = {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}


def _logits(rng: Rng, *shape: int) -> np.ndarray:
    return numbers(rng, *shape, unkind=("small", "offset", "quantised"))


def _tokens(params: Params, x: Any, labels: Any, *, ignore: bool = True, by_batch: bool = False) -> Any:
    real = labels != IGNORED if ignore else jnp.ones(labels.shape, bool)
    logits = linear(params, "head", x)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    total = jnp.where(real, each, 0)
    if by_batch:
        return (total.sum(axis=1) / real.sum(axis=1)).mean()
    return total.sum() / real.sum()


def _draw_tokens(rng: Rng) -> Drawn:
    b, t, d, classes = sizes(rng, 4, low=3, high=12)
    forward = lambda m, x, labels: F.cross_entropy(m.head(x).flatten(0, 1), labels.flatten())
    labels = rng.integers(0, classes, (b, t))
    labels[np.arange(t) >= rng.permutation(np.arange(b) % (t - 1) + 1)[:, None]] = IGNORED
    module = made(rng, lambda: Calls(forward, head=torch.nn.Linear(d, classes)))
    return Drawn(_tokens, module, (_logits(rng, b, t, d), labels))


def _smooth(params: Any, logits: Any, labels: Any, *, smoothing: float, others: int = 0) -> Any:
    classes = logits.shape[-1]
    targets = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    targets = targets * (1 - smoothing) + smoothing / (classes - others)
    return optax.softmax_cross_entropy(logits, targets).mean()


def _draw_smooth(rng: Rng) -> Drawn:
    b, classes = sizes(rng, 2, low=3, high=12)
    smoothing = one_of(rng, 0.1, 0.2)
    forward = lambda m, logits, labels: F.cross_entropy(logits, labels, label_smoothing=smoothing)
    inputs = (_logits(rng, b, classes), rng.integers(0, classes, b))
    return Drawn(partial(_smooth, smoothing=smoothing), Calls(forward), inputs)


def _weighted(params: Any, logits: Any, labels: Any, *, weights: list[float], by_weight: bool = True) -> Any:
    weight = jnp.asarray(weights, logits.dtype)[labels]
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (weight * each).sum() / (weight.sum() if by_weight else labels.size)


def _draw_weighted(rng: Rng) -> Drawn:
    b, classes = sizes(rng, 2, low=3, high=12)
    weights = [float(w) for w in rng.uniform(0.2, 3, classes)]
    forward = lambda m, logits, labels: F.cross_entropy(logits, labels, logits.new_tensor(weights))
    inputs = (_logits(rng, b, classes), rng.integers(0, classes, b))
    return Drawn(partial(_weighted, weights=weights), Calls(forward), inputs)


def _plain_weights(drawn: Drawn) -> Drawn:
    ones = [1.0] * drawn.inputs[0].shape[1]
    forward = lambda m, logits, labels: F.cross_entropy(logits, labels, logits.new_tensor(ones))
    return Drawn(partial(_weighted, weights=ones, by_weight=False), Calls(forward), drawn.inputs)


def _soft(params: Any, logits: Any, targets: Any, *, reduction: str, axis: int = 1) -> Any:
    targets = jax.nn.softmax(targets, axis=1)
    each = -(targets * jax.nn.log_softmax(logits, axis=axis)).sum(axis=1)
    return REDUCE[reduction](each)


def _naive(params: Any, logits: Any, targets: Any, *, reduction: str) -> Any:
    each = -(jax.nn.softmax(targets, axis=1) * jnp.log(jnp.exp(logits) / jnp.exp(logits).sum(axis=1, keepdims=True)))
    return REDUCE[reduction](each.sum(axis=1))


def _draw_soft(rng: Rng) -> Drawn:
    b, classes, h, w = sizes(rng, 4, high=7)
    reduction = one_of(rng, "mean", "sum", "none")
    forward = lambda m, logits, targets: F.cross_entropy(logits, targets.softmax(dim=1), reduction=reduction)
    inputs = (_logits(rng, b, classes, h, w), rng.normal(size=(b, classes, h, w)))
    return Drawn(partial(_soft, reduction=reduction), Calls(forward), inputs)


def _vocabulary(params: Any, logits: Any, labels: Any, *, narrow: bool = False) -> Any:
    top = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    terms = jnp.exp(logits - top)
    terms = terms.astype(jnp.bfloat16).astype(logits.dtype) if narrow else terms
    total = jnp.log(terms.sum(axis=-1)) + top[:, 0]
    return (total - jnp.take_along_axis(logits, jnp.asarray(labels)[:, None], axis=-1)[:, 0]).mean()


def _draw_vocabulary(rng: Rng) -> Drawn:
    b, classes = one_of(rng, 2, 3), one_of(rng, 32_000, 50_257, 131_072)
    forward = lambda m, logits, labels: F.cross_entropy(logits, labels)
    return Drawn(_vocabulary, Calls(forward), (rng.normal(size=(b, classes)), rng.integers(0, classes, b)))


def _binary(params: Any, x: Any, y: Any, *, weight: float, reduction: str, both_sides: bool = False) -> Any:
    y = jnp.asarray(y, x.dtype)
    each = -weight * y * jax.nn.log_sigmoid(x) - (weight if both_sides else 1) * (1 - y) * jax.nn.log_sigmoid(-x)
    return REDUCE[reduction](each)


def _draw_binary(rng: Rng) -> Drawn:
    b, classes = sizes(rng, 2, low=4)
    weight, reduction = float(rng.uniform(2, 5)), one_of(rng, "mean", "sum", "none")
    forward = lambda m, x, y: F.binary_cross_entropy_with_logits(
        x, y.to(x.dtype), pos_weight=x.new_tensor(weight), reduction=reduction
    )
    inputs = (numbers(rng, b, classes, unkind=("small", "large", "quantised")), rng.integers(0, 2, (b, classes)))
    return Drawn(partial(_binary, weight=weight, reduction=reduction), Calls(forward), inputs)


def _focal(params: Any, x: Any, y: Any, *, alpha: float, gamma: float) -> Any:
    return optax.sigmoid_focal_loss(x, jnp.asarray(y), alpha=alpha, gamma=gamma).mean()


def _torch_focal(x: Any, y: Any, alpha: float, gamma: float) -> Any:
    y, p = y.to(x.dtype), torch.sigmoid(x)
    of_truth = p * y + (1 - p) * (1 - y)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - of_truth) ** gamma
    return ((alpha * y + (1 - alpha) * (1 - y)) * loss).mean()


def _draw_focal(rng: Rng) -> Drawn:
    b, anchors = sizes(rng, 2, low=4)
    how = {"alpha": one_of(rng, 0.25, 0.6), "gamma": one_of(rng, 1.5, 2.0)}
    inputs = (numbers(rng, b, anchors, unkind=("small", "quantised")), rng.integers(0, 2, (b, anchors)))
    return Drawn(partial(_focal, **how), Calls(lambda m, x, y: _torch_focal(x, y, **how)), inputs)


def _other_alpha(drawn: Drawn) -> Drawn:
    return options(alpha=1 - drawn.port.keywords["alpha"])(drawn)  # type: ignore[attr-defined]


def _hinge(params: Params, x: Any, signs: Any) -> Any:
    return optax.hinge_loss(linear(params, "head", x)[:, 0], 2 * signs - 1).mean()


def _hinge_of_labels(port: Any, params: Params, x: Any, signs: Any) -> Any:
    return optax.hinge_loss(linear(params, "head", x)[:, 0], signs).mean()


def _draw_hinge(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=3)
    forward = lambda m, x, signs: torch.relu(1 - (2 * signs - 1) * m.head(x)[:, 0]).mean()
    signs = rng.permutation(np.arange(b) % 2)
    module = made(rng, lambda: Calls(forward, head=torch.nn.Linear(d, 1)))
    return Drawn(_hinge, module, (numbers(rng, b, d), signs))


def _margin(params: Any, scores: Any, labels: Any, *, power: int, margin: float, by_classes: bool = True) -> Any:
    classes = scores.shape[1]
    right = jnp.take_along_axis(scores, jnp.asarray(labels)[:, None], axis=1)
    other = 1 - jax.nn.one_hot(labels, classes, dtype=scores.dtype)
    each = (other * jnp.maximum(margin - right + scores, 0) ** power).sum(axis=1)
    return (each / classes if by_classes else each).mean()


def _draw_margin(rng: Rng) -> Drawn:
    b, classes = sizes(rng, 2)
    how: dict[str, Any] = {"power": one_of(rng, 1, 2), "margin": float(rng.uniform(0.5, 2))}
    forward = lambda m, scores, labels: F.multi_margin_loss(scores, labels, how["power"], how["margin"])
    inputs = (numbers(rng, b, classes, unkind=("small", "offset")), rng.integers(0, classes, b))
    return Drawn(partial(_margin, **how), Calls(forward), inputs)


def _ctc(params: Any, logits: Any, labels: Any, lengths: Any, counts: Any, *, blank: int = 0, mask: bool = True) -> Any:
    beyond = lambda n, length: (jnp.arange(length) >= n[:, None]).astype(logits.dtype)
    absent = beyond(lengths, logits.shape[1]) if mask else jnp.zeros(logits.shape[:2], logits.dtype)
    return optax.ctc_loss(logits, absent, labels, beyond(counts, labels.shape[1]), blank_id=blank)


def _torch_ctc(m: Any, logits: Any, labels: Any, lengths: Any, counts: Any) -> Any:
    logs = logits.log_softmax(dim=-1).transpose(0, 1)
    return F.ctc_loss(logs, labels, lengths, counts, blank=0, reduction="none")


def _draw_ctc(rng: Rng) -> Drawn:
    b, classes, count, extra = sizes(rng, 4, low=3, high=6)
    t = 2 * count + extra
    # A label that repeats needs a blank between, so a length is at least twice the count.
    counts = rng.integers(1, count + 1, b)
    lengths = rng.integers(2 * count, t, b)
    inputs = (rng.normal(size=(b, t, classes)), rng.integers(1, classes, (b, count)), lengths, counts)
    return Drawn(_ctc, Calls(_torch_ctc), inputs)


PAIRS = (
    ModelPair("token-cross-entropy", "the mean over tokens that are not ignored, by optax", _draw_tokens),
    ModelPair("smooth-cross-entropy", "cross entropy with label smoothing, by optax", _draw_smooth),
    ModelPair("weighted-cross-entropy", "cross entropy with class weights", _draw_weighted),
    ModelPair("soft-cross-entropy", "cross entropy against probabilities per pixel", _draw_soft),
    ModelPair("large-vocabulary", "cross entropy over as many classes as a language model has", _draw_vocabulary),
    ModelPair("binary-cross-entropy", "binary cross entropy with a weight of the positives", _draw_binary),
    ModelPair("focal-loss", "the focal loss, by optax", _draw_focal),
    ModelPair("hinge-loss", "the hinge loss of a linear classifier, by optax", _draw_hinge),
    ModelPair("multi-margin-loss", "the margin of many classes", _draw_margin),
    ModelPair("ctc-loss", "connectionist temporal classification, by optax", _draw_ctc),
)

MISTAKES = (
    Mistake("tokens-not-ignored", "token-cross-entropy", "the ignored label counts as class 0", options(ignore=False)),
    Mistake(
        "tokens-not-ignored-unseen", "token-cross-entropy", "the ignored label counts as class 0",
        both(other_inputs(lambda x, labels: (x, np.maximum(labels, 0))), options(ignore=False)),
        hidden_by="no label is ignored",
        answer="no label is the ignored index -100",
    ),
    Mistake("tokens-by-batch", "token-cross-entropy", "the mean of the sequences' means", options(by_batch=True)),
    Mistake("smoothing-others", "smooth-cross-entropy", "ε is shared by the wrong classes only", options(others=1)),
    Mistake("weights-by-batch", "weighted-cross-entropy", "the mean divides by the batch", options(by_weight=False)),
    Mistake(
        "weights-by-batch-unseen", "weighted-cross-entropy", "the mean divides by the batch",
        _plain_weights, hidden_by="all class weights are 1", answer="all class weights are the same",
    ),
    Mistake("soft-axis", "soft-cross-entropy", "the softmax runs over the last axis", options(axis=-1)),
    Mistake(
        "soft-naive", "soft-cross-entropy", "the exponential overflows float32, for large logits",
        both(other_inputs(lambda logits, targets: (logits + 100, targets)), other_port(_naive)),
    ),
    Mistake("vocabulary-bfloat16", "large-vocabulary", "the exponentials are in bfloat16", options(narrow=True)),
    Mistake("binary-weight", "binary-cross-entropy", "the weight is on both classes", options(both_sides=True)),
    Mistake("focal-alpha", "focal-loss", "α and 1 - α change places", _other_alpha),
    Mistake("hinge-labels", "hinge-loss", "the labels are 0 and 1", around(_hinge_of_labels)),
    Mistake("margin-mean", "multi-margin-loss", "the sum is not divided by the classes", options(by_classes=False)),
    Mistake("ctc-blank", "ctc-loss", "the blank is the last class", around(
        lambda port, params, logits, *rest: _ctc(params, logits, *rest, blank=logits.shape[-1] - 1)
    )),
    Mistake("ctc-lengths", "ctc-loss", "the lengths are ignored", options(mask=False)),
)  # fmt: skip
