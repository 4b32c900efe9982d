"""Fixed points, flows and Gaussian processes: what iterates or solves inside a layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from crosscheck.models.building_blocks import Params, draw_input, linear
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L, Weight = torch.nn.Linear, torch.nn.Parameter


def _process_torch(m: Any, x: Any, y: Any) -> Any:
    """The negative log marginal likelihood of a Gaussian process with a kernel of one length per axis."""
    scaled = x / m.log_lengths.exp()
    apart = (scaled[:, :, None] - scaled[:, None]).pow(2).sum(-1)
    kernel = (2 * m.log_scale).exp() * torch.exp(-0.5 * apart)
    kernel = kernel + (m.log_noise.exp() ** 2 + 1e-4) * torch.eye(x.shape[1], dtype=x.dtype)
    root = torch.linalg.cholesky(kernel)
    solved = torch.cholesky_solve((y - m.mean)[..., None], root)[..., 0]
    half_log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * ((y - m.mean) * solved).sum(-1) + half_log_det + 0.5 * x.shape[1] * np.log(2 * np.pi)


def _process(params: Params, x: Any, y: Any, *, half: float = 0.5, log_det: float = 1.0, jitter: float = 1e-4) -> Any:
    def one(x: Any, y: Any) -> Any:
        lengths, noise = jnp.exp(params["log_lengths"]), jnp.exp(params["log_noise"]) ** 2
        apart = (((x[:, None] - x) / lengths) ** 2).sum(-1)
        kernel = jnp.exp(2 * params["log_scale"] - half * apart) + (noise + jitter) * jnp.eye(len(x), dtype=x.dtype)
        root, lower = jax.scipy.linalg.cho_factor(kernel, lower=True)
        fit = (y - params["mean"]) @ jax.scipy.linalg.cho_solve((root, lower), y - params["mean"])
        return 0.5 * fit + log_det * jnp.log(jnp.diag(root)).sum() + 0.5 * len(x) * jnp.log(2 * jnp.pi)

    return jax.vmap(one)(x, y)


def _draw_process(rng: np.random.Generator) -> Drawn:
    batch, points, size = sizes(rng, 3, 2, 8)
    weights = {"log_lengths": rng.normal(0, 0.3, size), "log_noise": np.log(rng.uniform(0.1, 0.5))}
    weights |= {"log_scale": rng.normal(0, 0.3), "mean": rng.normal()}
    module = Calls(
        _process_torch, **{name: Weight(torch.tensor(a, dtype=torch.float32)) for name, a in weights.items()}
    )
    x = draw_input(rng, batch, points, size, unkind=("offset",))
    return Drawn(_process, module, (x, draw_input(rng, batch, points, unkind=("offset", "quantised"))))


def _flow_torch(m: Any, x: Any) -> Any:
    """A neural ordinary differential equation by steps of Runge and Kutta."""

    def field(t: float, x: Any) -> Any:
        return m.second(torch.tanh(m.first(torch.cat([x, torch.full_like(x[:, :1], t)], -1))))

    h = 1.0 / m.steps
    for n in range(m.steps):
        k1 = field(n * h, x)
        k2 = field(n * h + h / 2, x + h / 2 * k1)
        k3 = field(n * h + h / 2, x + h / 2 * k2)
        k4 = field(n * h + h, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def _flow(params: Params, x: Any, *, steps: int, middle: float = 0.5, weights: tuple[int, ...] = (1, 2, 2, 1)) -> Any:
    def field(t: Any, x: Any) -> Any:
        both = jnp.concatenate([x, jnp.full_like(x[:, :1], t)], axis=-1)
        return linear(params, "second", jnp.tanh(linear(params, "first", both)))

    h = 1.0 / steps

    def step(n: Any, x: Any) -> Any:
        t = n * h
        k1 = field(t, x)
        k2 = field(t + middle * h, x + h / 2 * k1)
        k3 = field(t + middle * h, x + h / 2 * k2)
        k4 = field(t + h, x + h * k3)
        total = sum(w * k for w, k in zip(weights, (k1, k2, k3, k4), strict=True))
        return x + h * total / sum(weights)

    return jax.lax.fori_loop(0, steps, step, x)


def _draw_flow(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, steps = sizes(rng, 4, 2, 7)
    with seeded(rng):
        module = Calls(_flow_torch, first=L(size + 1, hidden), second=L(hidden, size), steps=steps)
    return Drawn(partial(_flow, steps=steps), module, (draw_input(rng, batch, size, unkind=("quantised", "small")),))


def _hopfield_torch(m: Any, state: Any) -> Any:
    """A modern Hopfield network: three updates towards stored patterns."""
    for _ in range(3):
        state = (m.beta * state @ m.patterns.T).softmax(-1) @ m.patterns
    return state


def _hopfield(params: Params, state: Any, *, updates: int = 3) -> Any:
    patterns = params["patterns"]
    update = lambda state, _: (jax.nn.softmax(params["beta"] * state @ patterns.T, axis=-1) @ patterns, None)
    return jax.lax.scan(update, state, None, length=updates)[0]


def _draw_hopfield(rng: np.random.Generator) -> Drawn:
    batch, count, size = sizes(rng, 3, 2, 9)
    with seeded(rng):
        patterns, beta = Weight(torch.randn(count, size)), Weight(torch.tensor(rng.uniform(0.2, 1)).float())
        module = Calls(_hopfield_torch, patterns=patterns, beta=beta)
    return Drawn(_hopfield, module, (draw_input(rng, batch, size, unkind=("quantised", "small")),))


def _equilibrium_torch(m: Any, x: Any) -> Any:
    """A deep equilibrium by unrolled steps of a contraction."""
    weight = 0.7 * m.weight / m.weight.norm()
    z, forced = torch.zeros_like(x @ m.enter.weight.T), m.enter(x)
    for _ in range(m.steps):
        z = torch.tanh(z @ weight.T + forced)
    return m.leave(z)


def _equilibrium(
    params: Params, x: Any, *, steps: int, backward: Callable[[Any], Any] = lambda z: z, norm: Any = None
) -> Any:
    weight = 0.7 * params["weight"] / jnp.linalg.norm(params["weight"], norm)
    forced = linear(params, "enter", x)
    once = lambda z: jnp.tanh(z @ weight.T + forced)
    z = jax.lax.fori_loop(0, steps - 1, lambda _, z: once(z), jnp.zeros_like(forced))
    return linear(params, "leave", once(backward(z)))


def _draw_equilibrium(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, out = sizes(rng, 4, 2, 9)
    steps = int(rng.integers(5, 12))
    with seeded(rng):
        layers = {"enter": L(size, hidden), "leave": L(hidden, out)}
        module = Calls(_equilibrium_torch, **layers, weight=Weight(torch.randn(hidden, hidden)), steps=steps)
    x = draw_input(rng, batch, size, unkind=("quantised", "small"))
    return Drawn(partial(_equilibrium, steps=steps), module, (x,))


PAIRS = (
    ModelPair("gaussian-process-cholesky", "the log likelihood of a Gaussian process by Cholesky", _draw_process),
    ModelPair("neural-flow", "a neural differential equation by Runge and Kutta", _draw_flow),
    ModelPair("hopfield", "three updates of a modern Hopfield network", _draw_hopfield),
    ModelPair("deep-equilibrium", "unrolled steps to a fixed point", _draw_equilibrium),
)
MISTAKES = (
    Mistake("process-log-det", "gaussian-process-cholesky", "the log determinant counts twice", options(log_det=2.0)),
    Mistake("process-half", "gaussian-process-cholesky", "the kernel lacks the half", options(half=1.0)),
    Mistake("process-jitter", "gaussian-process-cholesky", "the jitter is 1e-6", options(jitter=1e-6)),
    Mistake("flow-middle", "neural-flow", "the middle stages are at the time of the first", options(middle=0.0)),
    Mistake("flow-weights", "neural-flow", "stages have equal weights", options(weights=(1, 1, 1, 1))),
    Mistake("hopfield-updates", "hopfield", "there is one update", options(updates=1)),
    Mistake(
        "equilibrium-last-step",
        "deep-equilibrium",
        "gradients flow through the last step only",
        options(backward=jax.lax.stop_gradient),
    ),
    Mistake("equilibrium-norm", "deep-equilibrium", "the norm is spectral", options(norm=2)),
)
