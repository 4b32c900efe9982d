"""Every usual activation between two linear layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import torch

from crosscheck.models.building_blocks import Params, linear
from crosscheck.models.changing import options, other_port
from crosscheck.models.drawing import GENTLE, Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

Linear = torch.nn.Linear
Kind: TypeAlias = tuple[Any, Any]  # functions in torch and in JAX
F = torch.nn.functional


def _net(params: Params, x: Any, *, activation: Callable[[Any], Any]) -> Any:
    return linear(params, "last", activation(linear(params, "first", x)))


def _between(kind: Callable[[Rng], Kind]) -> Callable[[Rng], Drawn]:
    """Return what draws a network with an activation of ``kind``."""

    def draw(rng: Rng) -> Drawn:
        b, d, h, out = sizes(rng, 4, high=12)
        in_torch, in_jax = kind(rng)
        forward = lambda m, x: m.last(in_torch(m.first(x)))
        module = made(rng, lambda: Calls(forward, first=Linear(d, h), last=Linear(h, out)))
        # Twice the usual size, so that every branch of an activation is taken.
        return Drawn(partial(_net, activation=in_jax), module, (2 * numbers(rng, b, d, unkind=GENTLE[1:]),))

    return draw


def _smooth(rng: Rng) -> Kind:
    return one_of(
        rng,
        (F.silu, jax.nn.silu),
        (F.softsign, jax.nn.soft_sign),
        (F.logsigmoid, jax.nn.log_sigmoid),
        (F.tanhshrink, lambda x: x - jnp.tanh(x)),
        (torch.sigmoid, jax.nn.sigmoid),
        (F.selu, jax.nn.selu),
        (lambda x: torch.relu(x) ** 2, lambda x: jnp.square(jax.nn.relu(x))),
    )


def _cut(rng: Rng) -> Kind:
    edge = float(rng.uniform(0.2, 0.8))
    kinds: list[Kind] = [
        (F.relu6, jax.nn.relu6),
        (F.hardswish, jax.nn.hard_swish),
        (F.hardtanh, jax.nn.hard_tanh),
        (lambda x: F.softshrink(x, edge), lambda x: jnp.sign(x) * jax.nn.relu(jnp.abs(x) - edge)),
        (lambda x: F.hardshrink(x, edge), lambda x: jnp.where(jnp.abs(x) > edge, x, 0)),
        (lambda x: F.threshold(x, edge, -edge), lambda x: jnp.where(x > edge, x, -edge)),
    ]
    return one_of(rng, *kinds)


def _elu(rng: Rng) -> Kind:
    alpha = float(rng.uniform(0.3, 0.8))
    return lambda x: F.elu(x, alpha), partial(jax.nn.elu, alpha=alpha)


def _celu(rng: Rng) -> Kind:
    alpha = float(rng.uniform(0.3, 0.8))
    return lambda x: F.celu(x, alpha), partial(jax.nn.celu, alpha=alpha)


def _leaky(rng: Rng) -> Kind:
    slope = one_of(rng, 0.01, 0.1)
    return lambda x: F.leaky_relu(x, slope), partial(jax.nn.leaky_relu, negative_slope=slope)


def _softplus(x: Any, *, beta: float) -> Any:
    # torch is linear beyond 20, which changes the ninth digit. The double where keeps NaN out of the gradient.
    far = beta * x > 20
    return jnp.where(far, x, jax.nn.softplus(beta * jnp.where(far, 0, x)) / beta)


def _softplus_kind(rng: Rng) -> Kind:
    beta = float(rng.uniform(2, 12))
    return lambda x: F.softplus(x, beta), partial(_softplus, beta=beta)


def _quick_gelu(x: Any) -> Any:
    return x * jax.nn.sigmoid(1.702 * x)


@jax.custom_vjp
def _half_derivative(x: Any) -> Any:
    return _quick_gelu(x)


_half_derivative.defvjp(lambda x: (_quick_gelu(x), x), lambda x, g: (g * jax.nn.sigmoid(1.702 * x),))


def _same(in_torch: Callable[[Any], Any], in_jax: Callable[[Any], Any]) -> Callable[[Rng], Kind]:
    return lambda rng: (in_torch, in_jax)


def _prelu(params: Params, x: Any, *, channels: bool = True) -> Any:
    slope = params["slope.weight"][:, None] if channels else params["slope.weight"][0]
    y = jnp.einsum("oc,bcl->bol", params["mix.weight"][..., 0], x) + params["mix.bias"][:, None]
    return jnp.where(y >= 0, y, slope * y)


def _draw_prelu(rng: Rng) -> Drawn:
    b, c, out, length = sizes(rng, 4)
    forward = lambda m, x: m.slope(m.mix(x))
    parts = lambda: {"mix": torch.nn.Conv1d(c, out, 1), "slope": torch.nn.PReLU(out)}
    module = made(rng, lambda: Calls(forward, **parts()), spread=0.2)
    return Drawn(_prelu, module, (numbers(rng, b, c, length),))


def _glu(params: Params, x: Any, *, axis: int = -1) -> Any:
    return linear(params, "last", jax.nn.glu(linear(params, "first", x), axis=axis))


def _glu_first_half(params: Params, x: Any) -> Any:
    gate, value = jnp.split(linear(params, "first", x), 2, axis=-1)
    return linear(params, "last", jax.nn.sigmoid(gate) * value)


def _draw_glu(rng: Rng) -> Drawn:
    b, d, h, out = sizes(rng, 4)
    forward = lambda m, x: m.last(F.glu(m.first(x), dim=-1))
    module = made(rng, lambda: Calls(forward, first=Linear(d, 2 * h), last=Linear(h, out)))
    return Drawn(_glu, module, (numbers(rng, b, d, unkind=GENTLE),))


def _gated(params: Params, x: Any, *, activation: Callable[[Any], Any], gate: str = "gate", up: str = "up") -> Any:
    return linear(params, "down", activation(linear(params, gate, x)) * linear(params, up, x))


def _draw_gated(rng: Rng) -> Drawn:
    b, t, d, h = sizes(rng, 4)
    kinds: list[Kind] = [(F.silu, jax.nn.silu), (F.gelu, partial(jax.nn.gelu, approximate=False))]
    in_torch, in_jax = one_of(rng, *kinds)
    forward = lambda m, x: m.down(in_torch(m.gate(x)) * m.up(x))
    layer = lambda n, k: Linear(n, k, bias=False)
    module = made(rng, lambda: Calls(forward, gate=layer(d, h), up=layer(d, h), down=layer(h, d)))
    return Drawn(partial(_gated, activation=in_jax), module, (numbers(rng, b, t, d, unkind=GENTLE[1:]),))


def _pair(name: str, what: str, kind: Callable[[Rng], Kind]) -> ModelPair:
    return ModelPair(name, f"{what} between two linear layers", _between(kind))


PAIRS = (
    _pair("smooth-activation", "a smooth activation", _smooth),
    _pair("cut-activation", "an activation with corners or jumps", _cut),
    _pair("gelu", "GELU", _same(F.gelu, partial(jax.nn.gelu, approximate=False))),
    _pair("gelu-tanh", "GELU by tanh", _same(partial(F.gelu, approximate="tanh"), jax.nn.gelu)),
    _pair("quick-gelu", "x sigmoid(1.702 x)", _same(lambda x: x * torch.sigmoid(1.702 * x), _quick_gelu)),
    _pair("mish", "Mish", _same(F.mish, jax.nn.mish)),
    _pair("hard-sigmoid", "the hard sigmoid", _same(F.hardsigmoid, jax.nn.hard_sigmoid)),
    _pair("elu", "ELU of a random α", _elu),
    _pair("celu", "CELU of a random α", _celu),
    _pair("leaky-relu", "the leaky ReLU", _leaky),
    _pair("softplus", "softplus of a random β", _softplus_kind),
    ModelPair("prelu", "a PReLU with a slope per channel", _draw_prelu),
    ModelPair("glu", "torch's GLU over the last axis", _draw_glu),
    ModelPair("gated-mlp", "SwiGLU or GeGLU with three kernels", _draw_gated),
)


def _replaced(name: str, pair: str, what: str, activation: Callable[[Any], Any]) -> Mistake:
    return Mistake(name, pair, what, options(activation=activation))


MISTAKES = (
    _replaced("gelu-by-tanh", "gelu", "the approximation by tanh, JAX's default", jax.nn.gelu),
    _replaced("gelu-by-erf", "gelu-tanh", "the exact form", partial(jax.nn.gelu, approximate=False)),
    _replaced("quick-gelu-exact", "quick-gelu", "GELU in its place", partial(jax.nn.gelu, approximate=False)),
    _replaced("quick-gelu-vjp", "quick-gelu", "its own derivative lacks a term", _half_derivative),
    _replaced("mish-without-tanh", "mish", "x sigmoid(x) in its place", jax.nn.silu),
    _replaced("hard-sigmoid-keras", "hard-sigmoid", "Keras's slope 0.2", lambda x: jnp.clip(0.2 * x + 0.5, 0, 1)),
    _replaced("elu-alpha", "elu", "α is 1", jax.nn.elu),
    _replaced("celu-alpha", "celu", "α is 1", jax.nn.celu),
    _replaced("leaky-slope", "leaky-relu", "the slope is 0.2", partial(jax.nn.leaky_relu, negative_slope=0.2)),
    _replaced("softplus-beta", "softplus", "β is missing", jax.nn.softplus),
    Mistake("prelu-first-slope", "prelu", "the first slope serves all channels", options(channels=False)),
    Mistake("glu-halves", "glu", "the first half is the gate", other_port(_glu_first_half)),
    Mistake("gated-swapped", "gated-mlp", "the activation is on the other branch", options(gate="up", up="gate")),
)
