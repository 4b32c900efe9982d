"""The verdict names agreeing quantities of which little was compared, and earlier gaps of the check stay closed."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from crosscheck.core.finding import Outcome
from tests.support.pairs import judged, linear, module, numbers, parameter

pytestmark = pytest.mark.isa

functional = torch.nn.functional


def weighted(function):
    return module(lambda m, x: function(m.w * x), w=parameter(6))


def test_an_output_that_is_only_rounding_is_vacuous():
    """An example is the divergence of a policy from itself, at the start of a training."""
    same = module(lambda m, x: functional.kl_div((m.w * x).log_softmax(-1), (m.v * x).softmax(-1), reduction="sum"),
                  w=lambda: torch.nn.Parameter(torch.ones(6)), v=lambda: torch.nn.Parameter(torch.ones(6)))  # fmt: skip
    nothing = lambda p, x: jnp.zeros((), x.dtype)
    assert judged(nothing, same, numbers(4, 6)).outcome is Outcome.VACUOUS


def test_gradients_that_ones_as_cotangents_cancel_are_named():
    softmax = weighted(lambda x: x.softmax(-1))
    stopped = lambda p, x: lax.stop_gradient(jax.nn.softmax(p["w"] * x))
    verdict = judged(stopped, softmax, numbers(4, 6), cotangents=np.ones((4, 6)))
    assert any(line.startswith("grad w, grad x: zero within rounding") for line in verdict.not_shown)
    assert judged(stopped, softmax, numbers(4, 6)).outcome is Outcome.DISAGREE


@pytest.mark.parametrize("name", ["selu", "celu", "hardsigmoid"])
def test_a_float32_gradient_behind_an_inexact_operation_is_compared(name):
    @jax.custom_vjp
    def same(y):
        return y

    same.defvjp(lambda y: (y, None), lambda _, c: (c * (1.0 if c.dtype == jnp.float64 else 1.5),))
    ports = {"selu": jax.nn.selu, "celu": lambda y: jax.nn.celu(y, 0.7), "hardsigmoid": jax.nn.hard_sigmoid}
    options = {"celu": {"alpha": 0.7}}.get(name, {})
    reference = weighted(lambda y: getattr(functional, name)(y, **options))
    assert judged(lambda p, x: ports[name](p["w"] * x), reference, numbers(4, 6))
    wrong = judged(lambda p, x: ports[name](same(p["w"] * x)), reference, numbers(4, 6))
    assert wrong.outcome is Outcome.DISAGREE


def test_a_loop_elsewhere_in_the_port_does_not_widen_the_limits():
    two = module(lambda m, x, r: (torch.expm1(m.w * x), torch.tanh(r)), w=lambda: torch.nn.Parameter(torch.ones(6)))
    naive = lambda p, x, r: (jnp.exp(p["w"] * x) - 1, lax.map(jnp.tanh, r))
    verdict = judged(naive, two, 5e-3 * numbers(4, 6), numbers(2000))
    assert verdict.outcome is Outcome.DISAGREE
    assert "less precise" in verdict.cause


def test_a_mirrored_cast_before_an_index_agrees():
    chosen = module(lambda m, x: (m.w * x).float()[[3, 1]].to(x.dtype), w=parameter(6))
    port = lambda p, x: (p["w"] * x).astype(jnp.float32)[jnp.array([3, 1])].astype(x.dtype)
    verdict = judged(port, chosen, numbers(4, 6))
    assert verdict, str(verdict)


def test_a_constant_that_is_no_short_decimal_inside_a_mirrored_cast_agrees():
    gelu = weighted(lambda y: functional.gelu(y.float(), approximate="tanh").to(y.dtype))
    verdict = judged(lambda p, x: jax.nn.gelu((p["w"] * x).astype(jnp.float32)).astype(x.dtype), gelu, numbers(4, 6))
    assert verdict, str(verdict)
    scaled = weighted(lambda y: (y.float() * 6**-0.5).to(y.dtype))
    port = lambda p, x: ((p["w"] * x).astype(jnp.float32) * 6**-0.5).astype(x.dtype)
    verdict = judged(port, scaled, numbers(4, 6))
    assert verdict, str(verdict)
    assert any("rounded to float32" in line for line in verdict.not_shown)


class Attention(torch.nn.Module):
    """Attention that keeps its scale as a plain tensor, as in a tutorial."""

    def __init__(self):
        super().__init__()
        self.q = torch.nn.Linear(6, 4)
        self.scale = torch.sqrt(torch.FloatTensor([5]))

    def forward(self, x):
        return self.q(x) / self.scale


def test_a_plain_tensor_of_a_module_is_a_rounded_constant():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = Attention()
    verdict = judged(lambda p, x: linear(p, "q", x) / jnp.sqrt(5.0), attention, numbers(4, 6))
    assert verdict, str(verdict)
    assert judged(lambda p, x: linear(p, "q", x) / 2.2361, attention, numbers(4, 6)).outcome is Outcome.DISAGREE


def test_a_product_with_a_closed_over_float64_array_agrees():
    d = numbers(4, 6, seed=3)
    fixed = torch.tensor(d)
    reference = module(lambda m, x: x * m.w * fixed.to(x.dtype), w=parameter(6))
    for port in (lambda p, x: x * p["w"] * d, jax.jit(lambda p, x: x * p["w"] * d)):
        verdict = judged(port, reference, numbers(4, 6))
        assert verdict, str(verdict)


def test_constants_that_were_made_in_float32_at_import_agree_with_a_line():
    gray = jnp.array([0.299, 0.587, 0.114], jnp.float32)
    reference = module(lambda m, x: (x * m.w * torch.tensor([0.299, 0.587, 0.114])).sum(-1), w=parameter(3))
    verdict = judged(lambda p, x: (x * p["w"] * gray).sum(-1), reference, numbers(4, 3))
    assert verdict, str(verdict)


def test_a_module_that_takes_a_gradient_in_its_forward_pass():
    def forces(m, x):
        x = x if x.requires_grad else x.requires_grad_()
        energy = (m.w * x.float()).to(x.dtype).pow(3).sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]

    def port(p, x):
        return jax.grad(lambda x: (p["w"] * x.astype(jnp.float32)).astype(x.dtype).__pow__(3).sum())(x)

    verdict = judged(port, module(forces, w=parameter(6)), numbers(4, 6))
    assert verdict, str(verdict)


def test_a_bfloat16_softmax_on_both_sides_agrees():
    reference = weighted(lambda y: y.softmax(-1, dtype=torch.bfloat16).to(y.dtype))
    port = lambda p, x: jax.nn.softmax((p["w"] * x).astype(jnp.bfloat16), -1).astype(x.dtype)
    verdict = judged(port, reference, numbers(4, 6))
    assert verdict, str(verdict)


def test_numbers_that_are_far_smaller_than_the_others_are_counted():
    powers = torch.tensor([1.0, 1e-3, 1e-9, 1e-20, 1e-25, 1.0])
    scaled = module(lambda m, x: m.w * x * powers.to(x.dtype), w=parameter(6))
    large = np.array([1, 1, 1, 0, 0, 1.0])
    p, x = np.array([1, 1e-3, 1e-9, 1e-20, 1e-25, 1]), numbers(4, 6)
    verdict = judged(lambda params, x: params["w"] * x * p.astype(np.float32), scaled, x)
    assert verdict, str(verdict)
    assert any("are so small beside the largest" in line for line in verdict.not_shown)
    without = judged(lambda params, x: params["w"] * x * (p * large).astype(np.float32), scaled, x)
    assert without, "these numbers are within rounding of the largest"
    (line,) = (line for line in without.not_shown if "so small" in line)
    assert line.startswith("output 0, grad w, grad x: numbers (18) are")
    many = module(lambda m, x: x * 1)
    tiny = judged(lambda p, x: x * 1, many, np.r_[1.0, np.full(10_000, 2e-15)])
    counts = [int(line.partition("(")[2].partition(")")[0]) for line in tiny.not_shown if "so small" in line]
    assert sum(counts) < 100, "so many zeros would not agree together"
    seen = judged(lambda params, x: params["w"] * x, weighted(lambda y: y), x)
    assert not any("so small" in line for line in seen.not_shown)


def test_integers_that_may_overflow_are_named():
    counts = module(lambda m, x: (m.w * x > 0).sum(-1), w=parameter(6))
    verdict = judged(lambda p, x: (p["w"] * x > 0).sum(-1).astype(jnp.int8), counts, numbers(4, 6))
    assert verdict, str(verdict)
    assert any("integers have fewer bits than torch's" in line for line in verdict.not_shown)
    wide = judged(lambda p, x: (p["w"] * x > 0).sum(-1), counts, numbers(4, 6))
    assert not any("fewer bits" in line for line in wide.not_shown)


def test_a_gradient_that_fades_in_the_reference_itself_is_decided_in_float64():
    """A sure classifier has gradients of e^-100. In float32 torch loses their digits, also with larger cotangents."""

    def port(p, x, y):
        logs = jax.nn.log_softmax(linear(p, "l", x) + 100 * jax.nn.one_hot(y, 5, dtype=x.dtype))
        return 1 - jnp.take_along_axis(logs, y[:, None], 1).mean()

    sure = module(lambda m, x, y: 1 + functional.cross_entropy(m.l(x) + 100 * functional.one_hot(y, 5), y),
                  l=lambda: torch.nn.Linear(4, 5))  # fmt: skip
    labels = np.random.default_rng(0).integers(0, 5, 8)
    verdict = judged(port, sure, numbers(8, 4), labels)
    assert verdict, str(verdict)
    assert "settled by the float64 check" in str(verdict)
