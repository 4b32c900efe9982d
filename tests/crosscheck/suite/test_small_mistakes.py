"""Mistakes of 1e-6 are seen despite inexact operations and rounded constants. Subnormal numbers are no mistake."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from crosscheck.core.finding import Outcome
from crosscheck.core.torch_runner import flushed_subnormals
from tests.support.pairs import judged, linear, module, numbers, parameter

pytestmark = pytest.mark.isa

functional = torch.nn.functional
OFF = 1e-6


@jax.custom_vjp
def slightly_steep(a):
    return a


slightly_steep.defvjp(lambda a: (a, None), lambda _, c: (c * (1 + OFF),))


def test_the_default_cotangents_are_not_what_users_draw_their_inputs_from():
    """If y has the shape of x, equal draws would give dW = xᵀx, which is symmetric."""

    @jax.custom_vjp
    def transposes(w):
        return w

    transposes.defvjp(lambda w: (w, None), lambda _, c: (c.T,))
    x = np.random.default_rng(0).normal(size=(4, 6))
    layer = module(lambda m, x: x @ m.w, w=parameter(6, 6))
    assert judged(lambda p, x: x @ transposes(p["w"]), layer, x).outcome is Outcome.DISAGREE


INEXACT = {
    "celu": (jax.nn.celu, {"alpha": 0.7}),
    "selu": (lambda y, **_: jax.nn.selu(y), {}),
    "hardsigmoid": (lambda y, **_: jax.nn.hard_sigmoid(y), {}),
}


@pytest.mark.parametrize("name", INEXACT)
def test_a_gradient_behind_an_inexact_operation(name):
    activation, options = INEXACT[name]
    reference = module(lambda m, x: getattr(functional, name)(m.w * x, **options), w=parameter(6))
    right = judged(lambda p, x: activation(p["w"] * x, **options), reference, numbers(4, 6))
    assert right, str(right)
    wrong = lambda p, x: activation(slightly_steep(p["w"]) * x, **options)
    assert judged(wrong, reference, numbers(4, 6)).outcome is Outcome.DISAGREE


def test_an_output_beside_a_constant_in_float32():
    table = np.cos(np.arange(6)).astype(np.float32)
    reference = module(lambda m, x: m.w * x * torch.cos(torch.arange(6, dtype=x.dtype)), w=parameter(6))
    right = judged(lambda p, x: p["w"] * x * table, reference, numbers(4, 6))
    assert right, str(right)
    assert any("rounded to float32" in line for line in right.not_shown)
    wrong = lambda p, x: p["w"] * x * (1 + OFF) * table
    assert judged(wrong, reference, numbers(4, 6)).outcome is Outcome.DISAGREE


@pytest.mark.parametrize("make", [np.float32, jnp.float32])
def test_a_scalar_in_float32_is_a_rounded_constant(make):
    reference = module(lambda m, x: m.w * x * 0.3, w=parameter(6))
    right = judged(lambda p, x: p["w"] * x * make(0.3), reference, numbers(4, 6))
    assert right, str(right)
    assert any("rounded to float32" in line for line in right.not_shown)
    assert judged(lambda p, x: p["w"] * x * 0.3000001, reference, numbers(4, 6)).outcome is Outcome.DISAGREE
    assert judged(lambda p, x: p["w"] * x * 3.0000001, module(lambda m, x: m.w * x * 3, w=parameter(6)),
                  numbers(4, 6)).outcome is Outcome.DISAGREE  # fmt: skip


SUBNORMAL = {
    "a kernel": (
        lambda m, x: torch.exp(-((x * m.w) ** 2)).sum() + x.sum(),
        lambda p, x: jnp.exp(-((x * p["w"]) ** 2)).sum() + x.sum(),
        9.5 + 0.1 * numbers(5, 4),
    ),
    "a scale": (
        lambda m, x: torch.exp(-90 - m.w * x) * 1e38,
        lambda p, x: jnp.exp(-90 - p["w"] * x) * 1e38,
        0.3 * numbers(5, 4),
    ),
}


@pytest.mark.parametrize("name", SUBNORMAL)
def test_a_right_port_whose_numbers_are_subnormal_in_float32(name):
    """XLA treats subnormal numbers as zero, and torch does not."""
    forward, port, x = SUBNORMAL[name]
    kernel = module(forward, w=lambda: torch.nn.Parameter(torch.ones(4) * 0.99))
    verdict = judged(port, kernel, x)
    assert verdict, str(verdict)
    wrong = lambda p, x: port(p, x * (1 + 1e-8))
    assert judged(wrong, kernel, x).outcome is Outcome.DISAGREE


def test_torch_keeps_subnormal_numbers_after_a_check():
    layer = module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4))
    assert judged(lambda p, x: linear(p, "l", x), layer, numbers(3, 6))
    assert float(torch.tensor([2.0**-140]) * 1.0) != 0


def test_torch_flushes_subnormal_numbers_after_a_check_if_it_did_so_before():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps subnormal numbers")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with flushed_subnormals():
            pass
        assert float(torch.tensor([2.0**-140], dtype=torch.float32) * 1.0) == 0
    finally:
        torch.set_default_dtype(default)
        torch.set_flush_denormal(False)


def test_a_table_that_is_given_in_float32_is_named_as_a_constant():
    table = np.float32([0.1, 0.2, 0.3, 0.4])
    reference = module(lambda m, x: m.l(x) + torch.tensor(table), l=lambda: torch.nn.Linear(6, 4))
    verdict = judged(lambda p, x: linear(p, "l", x) + table, reference, numbers(3, 6))
    assert verdict, str(verdict)
    assert any("float32 at test_small_mistakes.py" in note and "(from a constant or an integer)" in note
               for note in verdict.notes)  # fmt: skip


def test_a_constant_in_float32_in_torch_does_not_excuse_a_cast_in_the_port():
    table = np.float32([0.1, 0.2, 0.3, 0.4])
    reference = module(lambda m, x: m.l(x) + torch.tensor(table), l=lambda: torch.nn.Linear(6, 4))
    leak = lambda p, x: linear(p, "l", x).astype(jnp.float32).astype(x.dtype) + table
    verdict = judged(leak, reference, numbers(3, 6))
    assert verdict.outcome is Outcome.DISAGREE
    assert "the port computes in float32 at test_small_mistakes.py" in str(verdict)


MADE_IN_FLOAT64 = {
    "frequencies": (
        lambda m, x: m.w * x * 10000.0 ** (-torch.arange(0, 8, 2).float() / 8),
        lambda p, x: p["w"] * x * (10000.0 ** (-jnp.arange(0, 8, 2) / 8)).astype(jnp.float32),
    ),
    "sines": (
        lambda m, x: m.w * x * torch.sin(torch.arange(4).float() / 7),
        lambda p, x: p["w"] * x * jnp.sin(jnp.arange(4) / 7).astype(jnp.float32),
    ),
}


@pytest.mark.parametrize("name", MADE_IN_FLOAT64)
def test_a_table_that_a_port_makes_in_float64_and_casts_to_the_dtype_of_torchs(name):
    forward, port = MADE_IN_FLOAT64[name]
    verdict = judged(port, module(forward, w=parameter(4)), numbers(3, 4))
    assert verdict, str(verdict)


def test_a_ratio_of_integers_that_a_port_makes_in_float64():
    reference = module(lambda m, x, n: m.w * x * (n.float() / 7), w=parameter(4))
    port = lambda p, x, n: p["w"] * x * (n / 7).astype(jnp.float32)
    verdict = judged(port, reference, numbers(3, 4), np.arange(4))
    assert verdict, str(verdict)


def test_an_embedding_of_time_steps_that_both_compute_in_float32():
    """Diffusion models do this: integers become float32, and their sines are float32 too."""

    def forward(m, x, t):
        rates = torch.exp(-4.0 * torch.arange(3, dtype=torch.float32) / 3)
        angles = t.float()[:, None] * rates
        return m.l(x) + torch.cat([angles.sin(), angles.cos()], -1)

    def port(p, x, t, rate=-4.0):
        rates = jnp.exp(rate * jnp.arange(3, dtype=jnp.float32) / 3)
        angles = t.astype(jnp.float32)[:, None] * rates
        return linear(p, "l", x) + jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)

    reference, t = module(forward, l=lambda: torch.nn.Linear(4, 6)), np.array([3, 17, 250])
    verdict = judged(port, reference, numbers(3, 4), t)
    assert verdict, str(verdict)
    wrong = judged(lambda p, x, t: port(p, x, t, -4.0001), reference, numbers(3, 4), t)
    assert wrong.outcome is Outcome.DISAGREE


def test_integers_that_both_cast_to_float32_before_a_root():
    reference = module(lambda m, x, n: m.w * x * n.float().sqrt()[:, None], w=parameter(4))
    port = lambda p, x, n: p["w"] * x * jnp.sqrt(n.astype(jnp.float32))[:, None]
    verdict = judged(port, reference, numbers(3, 4), np.array([3, 17, 250]))
    assert verdict, str(verdict)


def test_a_key_of_random_numbers_that_a_port_closes_over():
    key = jax.random.key(0)
    order = np.asarray(jax.random.permutation(key, 6))
    reference = module(lambda m, x: m.l(x)[:, torch.tensor(order).long()], l=lambda: torch.nn.Linear(6, 6))
    verdict = judged(lambda p, x: linear(p, "l", x)[:, jax.random.permutation(key, 6)], reference, numbers(3, 6))
    assert verdict, str(verdict)
