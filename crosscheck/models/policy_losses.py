"""Losses with parts that carry no gradient: reinforcement learning, critics, codebooks."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import both, options, other_inputs
from crosscheck.models.drawing import Rng, made, numbers, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

F, Linear = torch.nn.functional, torch.nn.Linear


def _critic(params: Params, real: Any, fake: Any, *, sign: int = 1) -> Any:
    score = lambda x: linear(params, "last", jax.nn.leaky_relu(linear(params, "first", x), 0.2))
    return sign * (score(fake).mean() - score(real).mean())


def _draw_critic(rng: Rng) -> Drawn:
    b, d, h = sizes(rng, 3)
    score = lambda m, x: m.last(F.leaky_relu(m.first(x), 0.2))
    forward = lambda m, real, fake: score(m, fake).mean() - score(m, real).mean()
    module = made(rng, lambda: Calls(forward, first=Linear(d, h), last=Linear(h, 1)))
    return Drawn(_critic, module, (numbers(rng, b, d), numbers(rng, b, d)))


def _q_loss(params: Params, x: Any, action: Any, reward: Any, after: Any, done: Any, **how: bool) -> Any:
    value = jnp.take_along_axis(linear(params, "q", x), jnp.asarray(action)[:, None], axis=1)[:, 0]
    best = linear(params, "q", after).max(axis=1)
    best = best if how.get("ends") is False else best * (1 - done)
    target = reward + 0.9 * best
    target = target if how.get("stop") is False else lax.stop_gradient(target)
    error = value - target
    size = jnp.abs(error)
    return jnp.where(size < 1, 0.5 * error**2, size - 0.5).mean()


def _torch_q_loss(m: Any, x: Any, action: Any, reward: Any, after: Any, done: Any) -> Any:
    value = m.q(x).gather(1, action[:, None])[:, 0]
    with torch.no_grad():
        target = reward + 0.9 * m.q(after).max(dim=1).values * (1 - done)
    return F.smooth_l1_loss(value, target)


def _draw_q_loss(rng: Rng) -> Drawn:
    b, d, actions = sizes(rng, 3, low=3)
    done = rng.permutation(np.arange(b) % 2)
    inputs = (rng.normal(size=(b, d)), rng.integers(0, actions, b), rng.normal(size=b), rng.normal(size=(b, d)), done)
    return Drawn(_q_loss, made(rng, lambda: Calls(_torch_q_loss, q=Linear(d, actions))), inputs)


def _ppo(
    params: Params,
    x: Any,
    action: Any,
    old: Any,
    gain: Any,
    *,
    clip: bool = True,
    flat: bool = False,
    bonus: float = 0.01,
) -> Any:
    logs = jax.nn.log_softmax(linear(params, "policy", x))
    log = jnp.take_along_axis(logs, jnp.asarray(action)[:, None], axis=1)[:, 0]
    ratio = jnp.exp(log - old)
    clipped = jnp.clip(ratio, 0.8, 1.2) * gain
    entropy = -(jnp.exp(logs) * logs).sum(axis=1).mean()
    chosen = clipped if flat else jnp.minimum(ratio * gain, clipped) if clip else ratio * gain
    return -chosen.mean() - bonus * entropy


def _torch_ppo(m: Any, x: Any, action: Any, old: Any, gain: Any) -> Any:
    policy = torch.distributions.Categorical(logits=m.policy(x))
    ratio = torch.exp(policy.log_prob(action) - old)
    loss = torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
    return -loss.mean() - 0.01 * policy.entropy().mean()


def _draw_ppo(rng: Rng) -> Drawn:
    d, actions = sizes(rng, 2, low=3)
    b = 16
    module = made(rng, lambda: Calls(_torch_ppo, policy=Linear(d, actions)))
    x, action = rng.normal(size=(b, d)), rng.integers(0, actions, b)
    with torch.no_grad():
        logs = module.policy(torch.tensor(x).float()).log_softmax(dim=1).numpy()  # type: ignore[operator]
    old = logs[np.arange(b), action] + 0.4 * rng.normal(size=b)  # about half of the ratios are clipped
    return Drawn(_ppo, module, (x, action, old, rng.normal(size=b)))


def _near_policy(drawn: Drawn) -> Drawn:
    with torch.no_grad():
        logs = drawn.module.policy(torch.tensor(drawn.inputs[0]).float()).log_softmax(dim=1)  # type: ignore[operator]
    old = logs.numpy()[np.arange(len(logs)), drawn.inputs[1]] + 1e-3
    return Drawn(drawn.port, drawn.module, (*drawn.inputs[:2], old, drawn.inputs[3]))


def _gae(params: Any, reward: Any, value: Any, last: Any, done: Any, *, late: bool = False) -> Any:
    after = jnp.concatenate((value[1:], last[None]))
    alive = 1 - jnp.asarray(done, value.dtype)
    trace = jnp.concatenate((alive[1:], jnp.ones_like(alive[:1]))) if late else alive
    delta = reward + 0.99 * after * alive - value

    def step(carry: Any, now: Any) -> Any:
        gain = now[0] + 0.99 * 0.95 * now[1] * carry
        return gain, gain

    _, gains = lax.scan(step, jnp.zeros_like(last), (delta, trace), reverse=True)
    return gains, lax.stop_gradient(gains + value)


def _torch_gae(m: Any, reward: Any, value: Any, last: Any, done: Any, whole: bool = False) -> Any:
    gains, gain, after = [], torch.zeros_like(last), last
    for t in reversed(range(len(reward))):
        alive = 1 - (done[t] if whole else done[t].to(value.dtype))
        gain = reward[t] + 0.99 * after * alive - value[t] + 0.99 * 0.95 * alive * gain
        after = value[t]
        gains.append(gain)
    stacked = torch.stack(gains[::-1])
    return stacked, (stacked + value).detach()


def _draw_gae(rng: Rng, whole: bool = False) -> Drawn:
    t, b = sizes(rng, 2, low=4, high=16)
    done = (rng.random((t, b)) < 0.3).astype(int)
    done[t // 2, 0] = 1
    floats = (numbers(rng, t, b), rng.normal(size=(t, b)), rng.normal(size=b))
    return Drawn(_gae, Calls(partial(_torch_gae, whole=whole)), (*floats, done))


def _quantise(params: Params, x: Any, *, straight: bool = True, other_way: bool = False) -> Any:
    codes = params["codes"]
    distance = ((x[:, None] - codes) ** 2).sum(axis=-1)
    index = jnp.argmin(distance, axis=1)
    near, still = codes[index], lax.stop_gradient
    codebook, commitment = ((near - still(x)) ** 2).mean(), ((still(near) - x) ** 2).mean()
    loss = commitment + 0.25 * codebook if other_way else codebook + 0.25 * commitment
    return (x + still(near - x) if straight else near), loss, index


def _torch_quantise(m: Any, x: Any) -> Any:
    index = ((x[:, None] - m.codes) ** 2).sum(-1).argmin(dim=1)
    near = m.codes[index]
    loss = F.mse_loss(near, x.detach()) + 0.25 * F.mse_loss(near.detach(), x)
    return x + (near - x).detach(), loss, index


def _draw_quantise(rng: Rng) -> Drawn:
    b, d, count = sizes(rng, 3)
    module = made(rng, lambda: Calls(_torch_quantise, codes=torch.nn.Parameter(torch.randn(count, d))))
    return Drawn(_quantise, module, (rng.normal(size=(b, d)),))


def _gumbel(params: Params, x: Any, noise: Any, *, warmth: float, hard: bool = True) -> Any:
    soft = jax.nn.softmax((linear(params, "logits", x) + noise) / warmth)
    one = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    return linear(params, "last", one + soft - lax.stop_gradient(soft) if hard else soft)


def _draw_gumbel(rng: Rng) -> Drawn:
    b, d, classes, out = sizes(rng, 4)
    warmth = float(rng.uniform(0.5, 2))

    def forward(m: Any, x: Any, noise: Any) -> Any:
        soft = F.softmax((m.logits(x) + noise) / warmth, dim=-1)
        one = F.one_hot(soft.argmax(dim=-1), classes).to(soft.dtype)
        return m.last(one - soft.detach() + soft)

    module = made(rng, lambda: Calls(forward, logits=Linear(d, classes), last=Linear(classes, out)))
    return Drawn(partial(_gumbel, warmth=warmth), module, (rng.normal(size=(b, d)), rng.gumbel(size=(b, classes))))


PAIRS = (
    ModelPair("wgan-critic", "the difference of a critic's means; the last bias has no gradient", _draw_critic),
    ModelPair("q-learning", "the error against a target without gradient", _draw_q_loss),
    ModelPair("ppo", "the clipped ratio of PPO with a bonus for entropy", _draw_ppo),
    ModelPair("gae", "generalized advantages by a scan backwards in time", _draw_gae),
    # 0.99 * 0.95 * alive is float32 in torch if alive is an integer, whatever the dtype of the rest.
    ModelPair("gae-integers", "the same with integers for the ends", partial(_draw_gae, whole=True)),
    ModelPair("vector-quantiser", "the nearest codes, with both losses and a straight gradient", _draw_quantise),
    ModelPair("straight-gumbel", "a hard choice with the gradient of the soft one", _draw_gumbel),
)

MISTAKES = (
    Mistake("critic-sign", "wgan-critic", "the difference has the other sign", options(sign=-1)),
    Mistake("q-target-gradient", "q-learning", "the target carries a gradient", options(stop=False)),
    Mistake("q-end", "q-learning", "the value after an end counts", options(ends=False)),
    Mistake(
        "q-end-unseen", "q-learning", "the value after an end counts",
        both(other_inputs(lambda *inputs: (*inputs[:-1], np.zeros_like(inputs[-1]))), options(ends=False)),
        hidden_by="no episode ends",
        answer="every number of 'done' is 0",
    ),
    Mistake("ppo-no-minimum", "ppo", "the clipped ratio without the minimum", options(flat=True)),
    Mistake("ppo-not-clipped", "ppo", "the ratio is not clipped", options(clip=False)),
    Mistake("ppo-bonus", "ppo", "the entropy has the other sign", options(bonus=-0.01)),
    Mistake(
        "ppo-not-clipped-unseen", "ppo", "the ratio is not clipped, in the first epoch",
        both(_near_policy, options(clip=False)), hidden_by="every ratio is within the clip",
        answer="no number is beyond the lower bound or the upper bound of clamp",
    ),
    Mistake("gae-late-end", "gae", "the trace ends one step late", options(late=True)),
    Mistake("quantiser-straight", "vector-quantiser", "the gradient reaches the codes", options(straight=False)),
    Mistake("quantiser-losses", "vector-quantiser", "the two losses change places", options(other_way=True)),
    Mistake("gumbel-soft", "straight-gumbel", "the soft choice is used", options(hard=False)),
)  # fmt: skip
