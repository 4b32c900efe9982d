"""Losses between two things: regression, likelihoods, divergences, and distances between embeddings."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import around, options
from crosscheck.models.drawing import Rng, made, numbers, one_of, rarely, sizes
from crosscheck.models.losses import REDUCE
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F = torch.nn.functional


def _huber(params: Any, x: Any, y: Any, *, delta: float, reduction: str) -> Any:
    return REDUCE[reduction](optax.huber_loss(x, y, delta=delta))


def _draw_huber(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=4)
    delta, reduction = float(rng.uniform(0.3, 0.8)), one_of(rng, "mean", "sum", "none")
    forward = lambda m, x, y: F.huber_loss(x, y, delta=delta, reduction=reduction)
    x = numbers(rng, b, d, unkind=("large", "offset"))
    return Drawn(partial(_huber, delta=delta, reduction=reduction), Calls(forward), (x, x + rng.normal(size=(b, d))))


def _smooth_l1(params: Any, x: Any, y: Any, *, beta: float) -> Any:
    error = jnp.abs(x - y)
    return jnp.where(error < beta, 0.5 * error**2 / beta, error - 0.5 * beta).mean()


def _draw_smooth_l1(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=4)
    beta = float(rng.uniform(0.3, 0.8))
    forward = lambda m, x, y: F.smooth_l1_loss(x, y, beta=beta)
    x = numbers(rng, b, d, unkind=("large",))
    return Drawn(partial(_smooth_l1, beta=beta), Calls(forward), (x, x + rng.normal(size=(b, d))))


def _huber_for_smooth_l1(port: Any, params: Any, x: Any, y: Any) -> Any:
    return optax.huber_loss(x, y, delta=port.keywords["beta"]).mean()


def _distil(
    params: Params, x: Any, teacher: Any, *, warmth: float, scaled: bool = True, all_numbers: bool = False
) -> Any:
    logs = jax.nn.log_softmax(linear(params, "student", x) / warmth)
    each = optax.losses.kl_divergence_with_log_targets(logs, jax.nn.log_softmax(teacher / warmth))
    mean = each.mean() / (teacher.shape[-1] if all_numbers else 1)
    return mean * (warmth**2 if scaled else 1)


def _draw_distil(rng: Rng) -> Drawn:
    b, d, classes = sizes(rng, 3, low=3, high=12)
    warmth = one_of(rng, 2.0, 3.0)

    def forward(m: Any, x: Any, teacher: Any) -> Any:
        logs, target = (F.log_softmax(z / warmth, dim=-1) for z in (m.student(x), teacher))
        return F.kl_div(logs, target, reduction="batchmean", log_target=True) * warmth**2

    module = made(rng, lambda: Calls(forward, student=torch.nn.Linear(d, classes)))
    x = rng.normal(size=(b, d))
    student = linear({name: p.detach().numpy() for name, p in module.named_parameters()}, "student", x)
    # A good student is close to its teacher.
    return Drawn(
        partial(_distil, warmth=warmth),
        module,
        (x, student + rarely(rng, 0.01, 1.0) * rng.normal(size=student.shape)),
    )


def _jensen_shannon(params: Any, a: Any, b: Any, *, of_logits: bool = False) -> Any:
    p, q = jax.nn.softmax(a), jax.nn.softmax(b)
    middle = jax.nn.log_softmax((a + b) / 2) if of_logits else jnp.log((p + q) / 2)
    kl = lambda p, x: (p * (jax.nn.log_softmax(x) - middle)).sum(axis=-1)
    return 0.5 * (kl(p, a) + kl(q, b)).mean()


def _torch_jensen_shannon(m: Any, a: Any, b: Any) -> Any:
    p, q = a.softmax(dim=-1), b.softmax(dim=-1)
    middle = ((p + q) / 2).log()
    kl = lambda x: F.kl_div(middle, x.log_softmax(dim=-1), reduction="batchmean", log_target=True)
    return 0.5 * (kl(a) + kl(b))


def _draw_jensen_shannon(rng: Rng) -> Drawn:
    b, classes = sizes(rng, 2, low=3)
    a = rng.normal(size=(b, classes))
    return Drawn(
        _jensen_shannon, Calls(_torch_jensen_shannon), (a, a + rarely(rng, 0.02, 1.0) * rng.normal(size=a.shape))
    )


def _triplet(params: Any, anchor: Any, positive: Any, negative: Any, *, margin: float) -> Any:
    distance = lambda other: jnp.linalg.norm(anchor - other + 1e-6, axis=-1)
    return jnp.maximum(distance(positive) - distance(negative) + margin, 0).mean()


def _triplet_of_optax(port: Any, params: Any, *vectors: Any) -> Any:
    return optax.losses.triplet_margin_loss(*vectors, margin=port.keywords["margin"]).mean()


def _draw_triplet(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=4)
    margin = 2 * float(np.sqrt(d))  # so large that some triplets count
    forward = lambda m, a, near, far: F.triplet_margin_loss(a, near, far, margin=margin)
    anchor = rng.normal(size=(b, d))
    near = anchor + rarely(rng, 0.01, 1.0) * rng.normal(size=(b, d))
    return Drawn(partial(_triplet, margin=margin), Calls(forward), (anchor, near, rng.normal(size=(b, d))))


def _contrast(params: Params, image: Any, text: Any, *, exp: bool = True, symmetric: bool = True) -> Any:
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    scale = jnp.exp(params["scale"]) if exp else params["scale"]
    logits = scale * unit(linear(params, "image", image)) @ unit(linear(params, "text", text)).T
    loss = lambda z: optax.softmax_cross_entropy_with_integer_labels(z, jnp.arange(len(z))).mean()
    return (loss(logits) + loss(logits.T)) / 2 if symmetric else loss(logits)


def _torch_contrast(m: Any, image: Any, text: Any) -> Any:
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    logits = m.scale.exp() * unit(m.image(image)) @ unit(m.text(text)).T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _draw_contrast(rng: Rng) -> Drawn:
    b, d, e, h = sizes(rng, 4, low=3)
    scale = torch.tensor(float(rng.uniform(0.5, np.log(1 / 0.07))))
    parts = lambda: {"image": torch.nn.Linear(d, h, bias=False), "text": torch.nn.Linear(e, h, bias=False)}
    module = made(rng, lambda: Calls(_torch_contrast, scale=torch.nn.Parameter(scale), **parts()))
    return Drawn(_contrast, module, (numbers(rng, b, d), numbers(rng, b, e)))


def _cosine_embedding(params: Any, a: Any, b: Any, signs: Any, *, margin: float, pull: int = 1) -> Any:
    dot, length = (a * b).sum(axis=-1), jnp.sqrt(((a**2).sum(axis=-1) + 1e-12) * ((b**2).sum(axis=-1) + 1e-12))
    cosine = dot / length
    return jnp.where(signs == pull, 1 - cosine, jnp.maximum(cosine - margin, 0)).mean()


def _draw_cosine_embedding(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=3)
    margin = one_of(rng, 0.0, -0.3)
    forward = lambda m, a, b, signs: F.cosine_embedding_loss(a, b, signs, margin=margin)
    inputs = (numbers(rng, b, d), rng.normal(size=(b, d)), rng.permutation(2 * (np.arange(b) % 2) - 1))
    return Drawn(partial(_cosine_embedding, margin=margin), Calls(forward), inputs)


def _poisson(params: Any, x: Any, counts: Any, *, log_input: bool, full: bool) -> Any:
    counts = jnp.asarray(counts, x.dtype)
    loss = jnp.exp(x) - counts * x if log_input else x - counts * jnp.log(x + 1e-8)
    if full:
        safe = jnp.maximum(counts, 1)
        stirling = safe * jnp.log(safe) - safe + 0.5 * jnp.log(2 * jnp.pi * safe)
        loss += jnp.where(counts > 1, stirling, 0)
    return loss.mean()


def _draw_poisson(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=4)
    how: dict[str, Any] = {"log_input": one_of(rng, True, False), "full": one_of(rng, True, False)}
    forward = lambda m, x, counts: F.poisson_nll_loss(x, counts.to(x.dtype), **how)
    x = rng.normal(size=(b, d)) if how["log_input"] else rng.uniform(0.2, 4, (b, d))
    return Drawn(partial(_poisson, **how), Calls(forward), (x, rng.poisson(3.0, (b, d))))


def _other_input(drawn: Drawn) -> Drawn:
    return options(log_input=not drawn.port.keywords["log_input"])(_positive(drawn))  # type: ignore[attr-defined]


def _positive(drawn: Drawn) -> Drawn:
    return Drawn(drawn.port, drawn.module, (np.abs(drawn.inputs[0]) + 0.1, drawn.inputs[1]))


def _gaussian(params: Params, x: Any, y: Any, *, full: bool, square: bool = False) -> Any:
    mean, raw = linear(params, "mean", x), linear(params, "spread", x)
    var = jnp.maximum(jax.nn.softplus(raw), 1e-6)
    var = var**2 if square else var
    loss = 0.5 * (jnp.log(var) + (y - mean) ** 2 / var)
    return (loss + 0.5 * jnp.log(2 * jnp.pi) if full else loss).mean()


def _draw_gaussian(rng: Rng) -> Drawn:
    b, d, out = sizes(rng, 3)
    full = one_of(rng, True, False)
    forward = lambda m, x, y: F.gaussian_nll_loss(m.mean(x), y, F.softplus(m.spread(x)), full=full)
    parts = lambda: {"mean": torch.nn.Linear(d, out), "spread": torch.nn.Linear(d, out)}
    inputs = (numbers(rng, b, d, unkind=("small", "quantised")), rng.normal(size=(b, out)))
    return Drawn(partial(_gaussian, full=full), made(rng, lambda: Calls(forward, **parts())), inputs)


PAIRS = (
    ModelPair("huber-loss", "the Huber loss, by optax", _draw_huber),
    ModelPair("smooth-l1-loss", "torch's smooth L1 loss", _draw_smooth_l1),
    ModelPair("distillation", "the divergence of a student from its teacher", _draw_distil),
    ModelPair("jensen-shannon", "the Jensen-Shannon divergence", _draw_jensen_shannon),
    ModelPair("triplet-loss", "the triplet margin loss", _draw_triplet),
    ModelPair("clip-loss", "CLIP's symmetric contrastive loss", _draw_contrast),
    ModelPair("cosine-embedding-loss", "the loss of pairs that should be alike or not", _draw_cosine_embedding),
    ModelPair("poisson-nll", "the likelihood of counts", _draw_poisson),
    ModelPair("gaussian-nll", "the likelihood of a normal distribution with its own variance", _draw_gaussian),
)

MISTAKES = (
    Mistake("smooth-l1-by-huber", "smooth-l1-loss", "the Huber loss, β times it", around(_huber_for_smooth_l1)),
    Mistake("huber-delta", "huber-loss", "δ is optax's default 1", options(delta=1.0)),
    Mistake("distillation-scale", "distillation", "the square of the temperature is missing", options(scaled=False)),
    Mistake("distillation-mean", "distillation", "the mean over all numbers", options(all_numbers=True)),
    Mistake("jensen-shannon-middle", "jensen-shannon", "the middle of the logits", options(of_logits=True)),
    Mistake("triplet-of-optax", "triplet-loss", "optax's, with ε inside the root", around(_triplet_of_optax)),
    Mistake("clip-scale", "clip-loss", "the scale is not exponentiated", options(exp=False)),
    Mistake("clip-one-way", "clip-loss", "only the loss of the images", options(symmetric=False)),
    Mistake("cosine-embedding-sign", "cosine-embedding-loss", "the labels are swapped", options(pull=-1)),
    Mistake("poisson-log", "poisson-nll", "log_input is the other one, for positive inputs", _other_input),
    Mistake("gaussian-deviation", "gaussian-nll", "the variance is taken as a deviation", options(square=True)),
)  # fmt: skip
