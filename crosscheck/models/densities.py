"""Log-densities, entropies and divergences of torch.distributions, against jax.scipy or the formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import jax.scipy.stats as stats
import numpy as np
import torch
import torch.distributions as dist

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import around, options
from crosscheck.models.drawing import Rng, made, rarely, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F, Linear = torch.nn.functional, torch.nn.Linear


def _positive(rng: Rng, *shape: int) -> np.ndarray:
    return rng.uniform(0.2, 6, shape)


def _drawn(port: Callable[..., Any], forward: Callable[..., Any], *inputs: np.ndarray) -> Drawn:
    return Drawn(port, Calls(lambda m, *arrays: forward(*arrays)), inputs)


def _normal(params: Any, x: Any, mean: Any, log_var: Any, *, half: float = 0.5) -> Any:
    scale = jnp.exp(half * log_var)
    kl = -0.5 * (1 + log_var - mean**2 - jnp.exp(log_var))
    return stats.norm.logpdf(x, mean, scale), kl.sum(axis=-1)


def _torch_normal(x: Any, mean: Any, log_var: Any) -> Any:
    q = dist.Normal(mean, torch.exp(0.5 * log_var), validate_args=False)
    one = dist.Normal(torch.zeros_like(mean), torch.ones_like(mean), validate_args=False)
    return q.log_prob(x), dist.kl_divergence(q, one).sum(-1)


def _draw_normal(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2)
    size = rarely(rng, 0.02, 1.0)  # a posterior that is close to its prior
    return _drawn(_normal, _torch_normal, rng.normal(size=(b, d)), *(size * rng.normal(size=(b, d)) for _ in range(2)))


def _gamma(params: Any, x: Any, a: Any, rate: Any, a0: Any, rate0: Any, *, as_scale: bool = False) -> Any:
    scale = rate if as_scale else 1 / rate
    kl = (
        (a - a0) * special.digamma(a)
        - special.gammaln(a)
        + special.gammaln(a0)
        + a0 * (jnp.log(rate) - jnp.log(rate0))
        + a * (rate0 / rate - 1)
    )
    return stats.gamma.logpdf(x, a, scale=scale), kl


def _torch_gamma(x: Any, a: Any, rate: Any, a0: Any, rate0: Any) -> Any:
    q = dist.Gamma(a, rate, validate_args=False)
    return q.log_prob(x), dist.kl_divergence(q, dist.Gamma(a0, rate0, validate_args=False))


def _draw_gamma(rng: Rng) -> Drawn:
    shape = sizes(rng, 2)
    return _drawn(_gamma, _torch_gamma, *(_positive(rng, *shape) for _ in range(5)))


def _beta(params: Any, x: Any, a: Any, b: Any) -> Any:
    total = special.digamma(a + b)
    entropy = special.betaln(a, b) - (a - 1) * (special.digamma(a) - total) - (b - 1) * (special.digamma(b) - total)
    return stats.beta.logpdf(x, a, b), entropy


def _torch_beta(x: Any, a: Any, b: Any) -> Any:
    p = dist.Beta(a, b, validate_args=False)
    return p.log_prob(x), p.entropy()


def _draw_beta(rng: Rng) -> Drawn:
    shape = sizes(rng, 2)
    return _drawn(_beta, _torch_beta, rng.uniform(0.05, 0.95, shape), _positive(rng, *shape), _positive(rng, *shape))


def _dirichlet(params: Any, logits: Any, a: Any, a0: Any, *, swap: bool = False) -> Any:
    logs = jax.nn.log_softmax(logits)
    log_prob = ((a - 1) * logs).sum(axis=-1) + special.gammaln(a.sum(axis=-1)) - special.gammaln(a).sum(axis=-1)
    p, q = (a0, a) if swap else (a, a0)
    total = p.sum(axis=-1)
    kl = special.gammaln(total) - special.gammaln(q.sum(axis=-1)) - (special.gammaln(p) - special.gammaln(q)).sum(-1)
    return log_prob, kl + ((p - q) * (special.digamma(p) - special.digamma(total[..., None]))).sum(axis=-1)


def _torch_dirichlet(logits: Any, a: Any, a0: Any) -> Any:
    p, q = dist.Dirichlet(a, validate_args=False), dist.Dirichlet(a0, validate_args=False)
    return p.log_prob(logits.softmax(dim=-1)), dist.kl_divergence(p, q)


def _draw_dirichlet(rng: Rng) -> Drawn:
    b, d = sizes(rng, 2)
    a = _positive(rng, b, d)
    prior = rarely(rng, a * rng.uniform(0.99, 1.01, (b, d)), _positive(rng, b, d))
    return _drawn(_dirichlet, _torch_dirichlet, rng.normal(size=(b, d)), a, prior)


def _categorical(params: Any, a: Any, b: Any, choice: Any, *, axis: int = -1) -> Any:
    p, q = jax.nn.log_softmax(a, axis=axis), jax.nn.log_softmax(b, axis=axis)
    chosen = jnp.take_along_axis(p, jnp.asarray(choice)[..., None], axis=-1)[..., 0]
    return chosen, -(jnp.exp(p) * p).sum(axis=-1), (jnp.exp(p) * (p - q)).sum(axis=-1)


def _torch_categorical(a: Any, b: Any, choice: Any) -> Any:
    p, q = dist.Categorical(logits=a), dist.Categorical(logits=b)
    return p.log_prob(choice), p.entropy(), dist.kl_divergence(p, q)


def _draw_categorical(rng: Rng) -> Drawn:
    b, t, classes = sizes(rng, 3, low=3)
    a = rng.normal(size=(b, t, classes))
    near = a + rarely(rng, 0.01, 1.0) * rng.normal(size=a.shape)
    return _drawn(_categorical, _torch_categorical, a, near, rng.integers(0, classes, (b, t)))


def _student(params: Any, x: Any, freedom: Any, mean: Any, scale: Any, *, square: bool = False) -> Any:
    return stats.t.logpdf(x, freedom, mean, scale**2 if square else scale)


def _draw_student(rng: Rng) -> Drawn:
    shape = sizes(rng, 2)
    forward = lambda x, freedom, mean, scale: dist.StudentT(freedom, mean, scale, validate_args=False).log_prob(x)
    x, mean = rarely(rng, 10.0, 1.0) * rng.normal(size=shape), rng.normal(size=shape)
    return _drawn(_student, forward, x, _positive(rng, *shape) + 1, mean, _positive(rng, *shape))


def _von_mises(params: Any, x: Any, mean: Any, sharpness: Any, *, scaled: bool = True) -> Any:
    log = jnp.log(special.i0e(sharpness))
    return sharpness * jnp.cos(x - mean) - jnp.log(2 * jnp.pi) - (log + sharpness if scaled else log)


def _draw_von_mises(rng: Rng) -> Drawn:
    shape = sizes(rng, 2)
    # torch.distributions.VonMises has a polynomial with an error of 1e-7 in place of i0.
    forward = lambda x, mean, sharpness: (
        sharpness * torch.cos(x - mean) - float(np.log(2 * np.pi)) - torch.special.i0e(sharpness).log() - sharpness
    )
    angle = lambda: rng.uniform(-np.pi, np.pi, shape)
    return _drawn(_von_mises, forward, angle(), angle(), _positive(rng, *shape) * rarely(rng, 20.0, 1.0))


def _mixture(params: Params, x: Any, y: Any, *, exp: bool = True, weighted: bool = True) -> Any:
    logs = jax.nn.log_softmax(linear(params, "weight", x)) if weighted else linear(params, "weight", x)
    raw = linear(params, "scale", x)
    scale = jnp.exp(raw) if exp else jax.nn.softplus(raw)
    return -jax.nn.logsumexp(logs + stats.norm.logpdf(y[:, None], linear(params, "mean", x), scale), axis=-1).mean()


def _torch_mixture(m: Any, x: Any, y: Any) -> Any:
    weight = dist.Categorical(logits=m.weight(x))
    parts = dist.Normal(m.mean(x), m.scale(x).exp())
    return -dist.MixtureSameFamily(weight, parts).log_prob(y).mean()


def _draw_mixture(rng: Rng) -> Drawn:
    b, d, count = sizes(rng, 3)
    parts = lambda: {name: Linear(d, count) for name in ("weight", "mean", "scale")}
    module = made(rng, lambda: Calls(_torch_mixture, **parts()))
    return Drawn(_mixture, module, (rng.normal(size=(b, d)), rng.normal(size=b) * rarely(rng, 10.0, 1.0)))


PAIRS = (
    ModelPair("normal", "the density of a normal distribution, and its divergence from the standard one", _draw_normal),
    ModelPair("gamma", "the density of a gamma distribution, and a divergence", _draw_gamma),
    ModelPair("beta", "the density and the entropy of a beta distribution", _draw_beta),
    ModelPair("dirichlet", "the density of a Dirichlet distribution, and a divergence", _draw_dirichlet),
    ModelPair("categorical", "density, entropy and divergence of classes", _draw_categorical),
    ModelPair("student-t", "the density of Student's t", _draw_student),
    ModelPair("von-mises", "the density of angles", _draw_von_mises),
    ModelPair("mixture-density", "a network that gives a mixture of normal distributions", _draw_mixture),
)

MISTAKES = (
    Mistake("normal-variance", "normal", "the variance is taken as a deviation", options(half=1.0)),
    Mistake("gamma-scale", "gamma", "the rate is taken as a scale", options(as_scale=True)),
    Mistake("beta-swapped", "beta", "a and b change places", around(lambda port, p, x, a, b: port(p, x, b, a))),
    Mistake("dirichlet-direction", "dirichlet", "the divergence has the other direction", options(swap=True)),
    Mistake("categorical-axis", "categorical", "the softmax runs over another axis", options(axis=1)),
    Mistake("student-scale", "student-t", "the scale is squared", options(square=True)),
    Mistake("von-mises-scaled", "von-mises", "i0e is taken for i0", options(scaled=False)),
    Mistake("mixture-weights", "mixture-density", "the weights are not normalized", options(weighted=False)),
    Mistake("mixture-softplus", "mixture-density", "softplus in place of exp", options(exp=False)),
)  # fmt: skip
