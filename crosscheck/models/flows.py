"""Flows, variational losses, and the linear algebra of normal distributions."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import numpy as np
import torch

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import options
from crosscheck.models.drawing import Rng, made, numbers, one_of, rarely, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F, Linear = torch.nn.functional, torch.nn.Linear
Q = torch.nn.Parameter


def _elbo(params: Params, x: Any, noise: Any, *, half: float = 0.5, means: bool = False) -> Any:
    hidden = jnp.tanh(linear(params, "encode", x))
    mean, log_var = linear(params, "mean", hidden), linear(params, "spread", hidden)
    logits = linear(params, "decode", mean + jnp.exp(half * log_var) * noise)
    fit = -(x * jax.nn.log_sigmoid(logits) + (1 - x) * jax.nn.log_sigmoid(-logits))
    kl = -0.5 * (1 + log_var - mean**2 - jnp.exp(log_var))
    return fit.mean() + kl.mean() if means else (fit.sum() + kl.sum()) / len(x)


def _torch_elbo(m: Any, x: Any, noise: Any) -> Any:
    hidden = torch.tanh(m.encode(x))
    mean, log_var = m.mean(hidden), m.spread(hidden)
    logits = m.decode(mean + torch.exp(0.5 * log_var) * noise)
    fit = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return (fit - 0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum()) / len(x)


def _draw_elbo(rng: Rng) -> Drawn:
    b, d, h, z = sizes(rng, 4)
    parts = lambda: {"encode": Linear(d, h), "mean": Linear(h, z), "spread": Linear(h, z), "decode": Linear(z, d)}
    pixels = rng.uniform(0, 1, (b, d))
    pixels = rarely(rng, np.round(pixels), pixels)
    return Drawn(_elbo, made(rng, lambda: Calls(_torch_elbo, **parts())), (pixels, rng.normal(size=(b, z))))


def _coupling(params: Params, x: Any, *, sign: int = 1, even: bool = True) -> Any:
    kept, moved = (x[..., ::2], x[..., 1::2]) if even else (x[..., 1::2], x[..., ::2])
    hidden = jnp.tanh(linear(params, "net.0", kept))
    scale, shift = jnp.split(linear(params, "net.2", hidden), 2, axis=-1)
    scale = jnp.tanh(scale)
    return jnp.concatenate((kept, moved * jnp.exp(scale) + shift), axis=-1), sign * scale.sum(axis=-1)


def _torch_coupling(m: Any, x: Any) -> Any:
    kept, moved = x[..., ::2], x[..., 1::2]
    scale, shift = m.net(kept).chunk(2, dim=-1)
    scale = torch.tanh(scale)
    return torch.cat((kept, moved * scale.exp() + shift), dim=-1), scale.sum(dim=-1)


def _draw_coupling(rng: Rng) -> Drawn:
    b, half, h = sizes(rng, 3)
    net = lambda: torch.nn.Sequential(Linear(half, h), torch.nn.Tanh(), Linear(h, 2 * half))
    return Drawn(_coupling, made(rng, lambda: Calls(_torch_coupling, net=net())), (numbers(rng, b, 2 * half),))


def _planar(params: Params, x: Any, *, invertible: bool = True) -> Any:
    w, u = params["w"], params["u"]
    dot = w @ u
    if invertible:
        u = u + (jax.nn.softplus(dot) - 1 - dot) * w / (w @ w)
    slope = jnp.tanh(x @ w + params["b"])
    return x + slope[:, None] * u, jnp.log(jnp.abs(1 + (1 - slope**2) * (w @ u)))


def _torch_planar(m: Any, x: Any) -> Any:
    dot = m.w @ m.u
    u = m.u + (F.softplus(dot) - 1 - dot) * m.w / (m.w @ m.w)
    slope = torch.tanh(x @ m.w + m.b)
    return x + slope[:, None] * u, torch.log(torch.abs(1 + (1 - slope**2) * (m.w @ u)))


def _draw_planar(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=3)
    parts = lambda: {"w": Q(torch.randn(d) / 2), "u": Q(torch.randn(d) / 2), "b": Q(torch.randn(()))}
    return Drawn(_planar, made(rng, lambda: Calls(_torch_planar, **parts())), (rng.normal(size=(b, d)),))


def _waiting(params: Any, rate: Any, start: Any, width: Any, *, exact: bool = True) -> Any:
    span = rate * width
    inside = jnp.log(-jnp.expm1(-span)) if exact else jnp.log(1 - jnp.exp(-span) + 1e-7)
    return -rate * start + inside


def _draw_waiting(rng: Rng) -> Drawn:
    shape = sizes(rng, 2)
    forward = lambda m, rate, start, width: -rate * start + torch.log(-torch.expm1(-rate * width))
    width = rng.uniform(0.1, 1, shape) * rarely(rng, 1e-4, 1.0)
    return Drawn(_waiting, Calls(forward), (rng.uniform(0.2, 3, shape), rng.uniform(0, 4, shape), width))


def _kumaraswamy(params: Any, x: Any, a: Any, b: Any, *, power: int = 1) -> Any:
    return jnp.log(a) + jnp.log(b) + (a - 1) * jnp.log(x) + (b - power) * jnp.log1p(-(x**a))


def _draw_kumaraswamy(rng: Rng) -> Drawn:
    shape = sizes(rng, 2)
    forward = lambda m, x, a, b: a.log() + b.log() + (a - 1) * x.log() + (b - 1) * torch.log1p(-(x**a))
    return Drawn(_kumaraswamy, Calls(forward), (rng.uniform(0.05, 0.95, shape), *rng.uniform(0.3, 4, (2, *shape))))


def _factor(params: Params) -> Any:
    raw = params["factor"]
    return jnp.tril(raw, -1) + jnp.diag(jax.nn.softplus(jnp.diag(raw)))


def _multivariate(params: Params, x: Any, *, lower: bool = True, half: bool = True) -> Any:
    factor = _factor(params)
    white = linalg.solve_triangular(factor if lower else factor.T, (x - params["mean"]).T, lower=lower)
    log_det = jnp.log(jnp.diag(factor)).sum() * (1 if half else 2)
    return -0.5 * (white**2).sum(axis=0) - log_det - 0.5 * x.shape[1] * jnp.log(2 * jnp.pi)


def _torch_multivariate(m: Any, x: Any) -> Any:
    factor = m.factor.tril(-1) + torch.diag(F.softplus(m.factor.diagonal()))
    return torch.distributions.MultivariateNormal(m.mean, scale_tril=factor, validate_args=False).log_prob(x)


def _draw_multivariate(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2)
    parts = lambda: {"mean": Q(torch.randn(d)), "factor": Q(torch.randn(d, d))}
    return Drawn(_multivariate, made(rng, lambda: Calls(_torch_multivariate, **parts())), (rng.normal(size=(b, d)),))


def _regression(params: Params, x: Any, y: Any, at: Any, *, noise: float, twice: bool = False) -> Any:
    length = jnp.exp(params["log_length"])
    kernel = lambda a, b: jnp.exp(-0.5 * ((a[:, None] - b) ** 2).sum(axis=-1) / (length if twice else length**2))
    factor = linalg.cho_factor(kernel(x, x) + noise * jnp.eye(len(x), dtype=x.dtype), lower=True)
    weights = linalg.cho_solve(factor, y)
    log_det = 2 * jnp.log(jnp.diag(factor[0])).sum()
    return kernel(at, x) @ weights, -0.5 * (y @ weights + log_det)


def _draw_regression(rng: Rng) -> Drawn:
    n, k, d = sizes(rng, 3)
    noise = rarely(rng, 0.01, 0.1)

    def forward(m: Any, x: Any, y: Any, at: Any) -> Any:
        kernel = lambda a, b: torch.exp(-0.5 * ((a[:, None] - b) ** 2).sum(-1) / m.log_length.exp() ** 2)
        gram = kernel(x, x) + noise * torch.eye(len(x), dtype=x.dtype)
        weights = torch.cholesky_solve(y[:, None], torch.linalg.cholesky(gram))[:, 0]
        return kernel(at, x) @ weights, -0.5 * (y @ weights + torch.logdet(gram))

    length = float(rng.uniform(0.5, 1))
    module = Calls(forward, log_length=Q(torch.tensor(length)))
    inputs = (rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=(k, d)))
    return Drawn(partial(_regression, noise=noise), module, inputs)


def _mixed(params: Params, x: Any, *, skew: bool = True, with_sign: bool = False) -> Any:
    generator = params["turn"] - params["turn"].T if skew else params["turn"]
    sign, log_det = jnp.linalg.slogdet(params["mix"])
    return x @ params["mix"].T @ linalg.expm(generator).T, sign * log_det if with_sign else log_det


def _torch_mixed(m: Any, x: Any) -> Any:
    return x @ m.mix.T @ torch.linalg.matrix_exp(m.turn - m.turn.T).T, torch.linalg.slogdet(m.mix).logabsdet


def _draw_mixed(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2, low=3, high=7)
    parts = lambda: {"mix": Q(torch.randn(d, d)), "turn": Q(torch.randn(d, d) * one_of(rng, 0.1, 1.0))}
    return Drawn(_mixed, made(rng, lambda: Calls(_torch_mixed, **parts())), (numbers(rng, b, d),))


PAIRS = (
    ModelPair("vae", "the loss of a variational autoencoder with given noise", _draw_elbo),
    ModelPair("coupling-flow", "an affine coupling layer and its log-determinant", _draw_coupling),
    ModelPair("planar-flow", "a planar flow that is invertible", _draw_planar),
    ModelPair("waiting-time", "the probability of a time within an interval, by expm1", _draw_waiting),
    ModelPair("kumaraswamy", "the density of Kumaraswamy's distribution, by log1p", _draw_kumaraswamy),
    ModelPair("multivariate-normal", "the density by a triangular factor", _draw_multivariate),
    ModelPair("gaussian-process", "the mean and the evidence by a Cholesky factor", _draw_regression),
    ModelPair("invertible-mix", "a rotation by a matrix exponential, and a log-determinant", _draw_mixed),
)

MISTAKES = (
    Mistake("vae-deviation", "vae", "the noise is scaled by the variance", options(half=1.0)),
    Mistake("vae-means", "vae", "means in place of sums", options(means=True)),
    Mistake("coupling-sign", "coupling-flow", "the log-determinant has the other sign", options(sign=-1)),
    Mistake("coupling-halves", "coupling-flow", "the two halves change places", options(even=False)),
    Mistake("planar-not-invertible", "planar-flow", "u is not corrected", options(invertible=False)),
    Mistake("waiting-epsilon", "waiting-time", "1e-7 is added before the logarithm", options(exact=False)),
    Mistake("kumaraswamy-power", "kumaraswamy", "b in place of b - 1", options(power=0)),
    Mistake("multivariate-upper", "multivariate-normal", "the factor is transposed", options(lower=False)),
    Mistake("multivariate-half", "multivariate-normal", "the log-determinant counts twice", options(half=False)),
    Mistake("process-length", "gaussian-process", "the length is not squared", options(twice=True)),
    Mistake("mix-not-skew", "invertible-mix", "the generator is not skew", options(skew=False)),
)  # fmt: skip
