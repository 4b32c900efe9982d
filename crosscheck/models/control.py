"""Reinforcement learning: Q-learning, a squashed Gaussian policy, and a categorical distribution of returns."""

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

L = torch.nn.Linear


def _q_torch(m: Any, state: Any, action: Any, reward: Any, after: Any, done: Any) -> Any:
    """Q-learning with a dueling head. The target is the same network, and no gradient flows through it."""

    def values(x: Any) -> Any:
        h = torch.tanh(m.body(x))
        advantage = m.advantage(h)
        return m.value(h) + advantage - advantage.mean(-1, keepdim=True)

    q = values(state)
    with torch.no_grad():
        target = reward + m.discount * (1.0 - done.to(q.dtype)) * values(after).max(-1).values
    return F.smooth_l1_loss(q.gather(1, action[:, None])[:, 0], target), q


def _q(
    params: Params,
    state: Any,
    action: Any,
    reward: Any,
    after: Any,
    done: Any,
    *,
    discount: float,
    stop: Callable[[Any], Any] = jax.lax.stop_gradient,
    centre: Callable[..., Any] = jnp.mean,
    loss: Callable[..., Any] = optax.huber_loss,
    end: bool = True,
) -> Any:
    def values(x: Any) -> Any:
        h = jnp.tanh(linear(params, "body", x))
        advantage = linear(params, "advantage", h)
        return linear(params, "value", h) + advantage - centre(advantage, axis=-1, keepdims=True)

    on = (1.0 - done) if end else 1.0
    target = stop(reward + discount * on * values(after).max(-1))
    q = values(state)
    return loss(jnp.take_along_axis(q, jnp.asarray(action)[:, None], axis=1)[:, 0], target).mean(), q


def _draw_q(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, actions = sizes(rng, 4, 3, 9)
    discount = float(rng.choice([0.9, 0.99]))
    with seeded(rng):
        layers = {"body": L(size, hidden), "value": L(hidden, 1), "advantage": L(hidden, actions)}
        module = Calls(_q_torch, **layers, discount=discount)
    state, after = (draw_input(rng, batch, size, unkind=("small", "quantised")) for _ in range(2))
    done = rng.random(batch) < 0.3
    done[:2] = True, False
    inputs = (state, rng.integers(0, actions, batch), 2 * rng.normal(size=batch), after, done)
    names = (*(name for name, _ in module.named_parameters()), "state")
    return Drawn(partial(_q, discount=discount), module, inputs, {"output_names": ("loss", "q"), "wrt": names})


def _never_done(drawn: Drawn) -> Drawn:
    """Let no episode end, and let the port ignore ends."""
    inputs = (*drawn.inputs[:4], np.zeros_like(drawn.inputs[4]))
    return options(end=False)(replace(drawn, inputs=inputs))


def _policy_torch(m: Any, state: Any, noise: Any) -> Any:
    """The action and log-probability of soft actor-critic."""
    mean, log_std = m.out(torch.relu(m.body(state))).chunk(2, -1)
    log_std = log_std.clamp(-5, 2)
    normal = torch.distributions.Normal(mean, log_std.exp(), validate_args=False)
    raw = mean + log_std.exp() * noise
    squash = 2 * (np.log(2) - raw - F.softplus(-2 * raw))
    return torch.tanh(raw), (normal.log_prob(raw) - squash).sum(-1)


def _stable(raw: Any) -> Any:
    """Return log(1 - tanh²) in the form that does not overflow."""
    return 2 * (np.log(2) - raw - jax.nn.softplus(-2 * raw))


def _policy(
    params: Params,
    state: Any,
    noise: Any,
    *,
    top: float = 2.0,
    squash: Callable[[Any], Any] = _stable,
    spread: Callable[[Any], Any] = jnp.exp,
) -> Any:
    mean, log_std = jnp.split(linear(params, "out", jax.nn.relu(linear(params, "body", state))), 2, axis=-1)
    std = spread(jnp.clip(log_std, -5, top))
    raw = mean + std * noise
    log_p = jax.scipy.stats.norm.logpdf(raw, mean, std)
    return jnp.tanh(raw), (log_p - squash(raw)).sum(-1)


def _draw_policy(rng: np.random.Generator) -> Drawn:
    batch, size, hidden, actions = sizes(rng, 4, 2, 9)
    with seeded(rng):
        module = Calls(_policy_torch, body=L(size, hidden), out=L(hidden, 2 * actions))
    state = draw_input(rng, batch, size, unkind=("small", "quantised"))
    inputs = (state, rng.normal(size=(batch, actions)))
    return Drawn(_policy, module, inputs, {"output_names": ("action", "log_p")})


def _returns_torch(m: Any, state: Any, reward: Any, done: Any, after: Any, next_action: Any) -> Any:
    """C51: the projection of r + γ z onto the atoms, and the cross-entropy to it."""
    atoms = torch.linspace(-m.most, m.most, m.count, dtype=state.dtype)
    gap = 2 * m.most / (m.count - 1)
    with torch.no_grad():
        later = m.net(after).unflatten(-1, (-1, m.count)).softmax(-1)
        later = later[torch.arange(len(state)), next_action]
        on = ~done if m.narrow else (~done).to(state.dtype)  # torch multiplies a bool by a number in float32
        moved = (reward[:, None] + m.discount * on[:, None] * atoms).clamp(-m.most, m.most)
        place = (moved + m.most) / gap
        low = place.floor().long().clamp(max=m.count - 2)
        target = torch.zeros_like(later)
        target = target.scatter_add(1, low, later * (low + 1 - place))
        target = target.scatter_add(1, low + 1, later * (place - low))
    log_p = m.net(state).unflatten(-1, (-1, m.count))[:, 0].log_softmax(-1)
    return -(target * log_p).sum(-1).mean(), target


def _project(place: Any, later: Any) -> Any:
    """Every atom takes a share from each place that is closer than one gap."""
    near = jnp.clip(1 - jnp.abs(place[:, :, None] - jnp.arange(place.shape[1], dtype=place.dtype)), 0, 1)
    return jnp.einsum("bi,bij->bj", later, near)


def _project_loses(place: Any, later: Any) -> Any:
    """A place that is exactly on an atom loses its mass, since floor and ceiling are equal."""
    rows, low, high = jnp.arange(len(place))[:, None], jnp.floor(place), jnp.ceil(place)
    target = jnp.zeros_like(later).at[rows, low.astype(int)].add(later * (high - place))
    return target.at[rows, high.astype(int)].add(later * (place - low))


def _returns(
    params: Params,
    state: Any,
    reward: Any,
    done: Any,
    after: Any,
    next_action: Any,
    *,
    most: float,
    count: int,
    discount: float,
    project: Callable[[Any, Any], Any] = _project,
    bound: bool = True,
) -> Any:
    net = lambda x: linear(params, "net", x).reshape(len(x), -1, count)
    later = jax.nn.softmax(net(after), axis=-1)[jnp.arange(len(state)), next_action]
    atoms = jnp.linspace(-most, most, count, dtype=state.dtype)
    moved = reward[:, None] + discount * jnp.where(done, 0, 1)[:, None] * atoms
    moved = jnp.clip(moved, -most, most) if bound else moved
    target = jax.lax.stop_gradient(project((moved + most) * (count - 1) / (2 * most), later))
    return optax.softmax_cross_entropy(net(state)[:, 0], target).mean(), target


def _draw_returns(rng: np.random.Generator, narrow: bool) -> Drawn:
    """Rewards are whole numbers, so that an episode's last return is exactly on an atom."""
    batch, size, actions = sizes(rng, 3, 3, 8)
    options: dict[str, Any] = {
        "most": 2.0,
        "count": int(rng.choice([5, 9])),
        "discount": float(rng.choice([0.9, 0.99])),
    }
    with seeded(rng):
        module = Calls(_returns_torch, net=L(size, actions * options["count"]), **options, narrow=narrow)
    done = rng.random(batch) < 0.4
    done[:2] = True, False
    reward = rng.integers(-1, 2, batch).astype(float)
    state, after = (draw_input(rng, batch, size, unkind=("small", "quantised")) for _ in range(2))
    inputs = (state, reward, done, after, rng.integers(0, actions, batch))
    wrt = (*(name for name, _ in module.named_parameters()), "state")
    return Drawn(partial(_returns, **options), module, inputs, {"output_names": ("loss", "target"), "wrt": wrt})


def _always_done(drawn: Drawn) -> Drawn:
    """Let every episode end with a small reward, and let the port not bound returns."""
    state, reward, done, *rest = drawn.inputs
    return options(bound=False)(replace(drawn, inputs=(state, reward, np.ones_like(done), *rest)))


PAIRS = (
    ModelPair("dueling-q-learning", "Q-learning with a dueling head and Huber's loss", _draw_q),
    ModelPair("squashed-policy", "the policy of soft actor-critic with its log-probability", _draw_policy),
    ModelPair("categorical-returns", "C51's projection and loss", partial(_draw_returns, narrow=False)),
    ModelPair("categorical-returns-bool", "C51 with a bool times a number", partial(_draw_returns, narrow=True)),
)
MISTAKES = (
    Mistake("q-target-learns", "dueling-q-learning", "a gradient flows through the target", options(stop=lambda x: x)),
    Mistake("q-centre", "dueling-q-learning", "the maximum is subtracted, not the mean", options(centre=jnp.max)),
    Mistake("q-squared", "dueling-q-learning", "the loss is the squared error", options(loss=optax.squared_error)),
    Mistake("q-no-end", "dueling-q-learning", "ends of episodes are ignored", options(end=False)),
    Mistake(
        "q-never-done",
        "dueling-q-learning",
        "ends of episodes are ignored",
        _never_done,
        hidden_by="no episode ends",
        answer="every number of 'done' is False",
    ),
    Mistake(
        "policy-no-squash", "squashed-policy", "the change of variables is missing", options(squash=jnp.zeros_like)
    ),
    Mistake(
        "policy-epsilon",
        "squashed-policy",
        "log(1 - tanh² + 1e-6) in place of the stable form",
        options(squash=lambda raw: jnp.log(1 - jnp.tanh(raw) ** 2 + 1e-6)),
    ),
    Mistake("policy-spread", "squashed-policy", "the spread is a softplus", options(spread=jax.nn.softplus)),
    Mistake(
        "policy-bound",
        "squashed-policy",
        "the spread is bounded at 20",
        options(top=20.0),
        hidden_by="no spread reaches its bound",
        answer="no number is beyond the lower bound or the upper bound of clamp",
    ),
    Mistake("returns-lost", "categorical-returns", "mass on an atom is lost", options(project=_project_loses)),
    Mistake(
        "returns-unbounded",
        "categorical-returns",
        "returns are not bounded",
        _always_done,
        hidden_by="no return is out of bounds",
        answer="no number is beyond the lower bound or the upper bound of clamp",
    ),
)
