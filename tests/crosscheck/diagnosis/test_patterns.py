"""The diagnosis names the mistake of any port whose numbers show it."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from crosscheck.core.conditioning import Reference
from crosscheck.core.finding import FLOAT64, Check, Finding, Outcome
from crosscheck.diagnosis.causes import likely_cause
from tests.support.pairs import judged, linear, module, numbers


def cause(port, reference, *inputs, **options):
    verdict = judged(port, reference, *inputs, **options)
    assert verdict.outcome is Outcome.DISAGREE
    return verdict.cause


def layer():
    return module(lambda m, x: torch.tanh(m.l(x)), l=lambda: torch.nn.Linear(6, 4))


def test_swapped_outputs():
    two = module(lambda m, x: (torch.tanh(x), x))
    assert (
        cause(lambda p, x: (x, jnp.tanh(x)), two, numbers(3, 6)) == "'output 0' and 'output 1' are swapped in the port"
    )


def test_a_factor():
    mean = lambda p, x: jnp.tanh(linear(p, "l", x)) / 4
    assert "output 0 in the port is 0.25 times that of torch" in cause(mean, layer(), numbers(3, 6))


def test_one_factor_of_a_scalar_and_its_gradients():
    loss = module(lambda m, x: m.l(x).square().sum(), l=lambda: torch.nn.Linear(6, 4))
    mean = lambda p, x: jnp.mean(linear(p, "l", x) ** 2)
    text = "all that differs is 0.0833333 times that of torch in the port: look at a mean in place of a sum"
    assert cause(mean, loss, numbers(3, 6)).startswith(text)
    other = lambda p, x: jnp.sum(linear(p, "l", x) ** 3)
    assert "times that of torch" not in cause(other, loss, numbers(3, 6))
    assert "times that of torch" not in cause(mean, loss, numbers(3, 6), wrt=())


def test_another_dtype():
    narrow = lambda p, x: jnp.tanh(linear(p, "l", x)).astype(jnp.bfloat16)
    assert cause(narrow, layer(), numbers(3, 6)) == (
        "the port returns output 0 in another dtype than torch: look at its casts"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_a_narrow_check_disagrees(dtype):
    right = Finding("y", FLOAT64, Outcome.AGREE, 0.0, 1.0)
    wrong = Finding("y", Check(dtype), Outcome.DISAGREE, 1e-3, 1e-6)
    text = likely_cause([right, wrong], Reference({}, {}, {}))
    assert text.startswith(f"float64 agrees and {dtype} does not: ")
    assert text.endswith("or a number underflows or overflows")
    other = Finding("y", Check(dtype), Outcome.DISAGREE, 1.0, 1e-6)
    text = likely_cause([right, wrong, other], Reference({}, {}, {}))
    assert text.startswith(
        f"float64 agrees, and {dtype} gives completely different numbers: look for a branch on the dtype"
    )


SLIGHT = 1 + 1e-8


@pytest.mark.parametrize(
    ("port", "forward"),
    [
        (lambda p, x: (jnp.tanh(x) * SLIGHT, jnp.tanh(x) * SLIGHT), lambda m, x: (torch.tanh(x), torch.tanh(x))),
        (lambda p, x: x @ x.T * SLIGHT, lambda m, x: x @ x.T),
    ],
)
def test_a_small_error_of_equal_or_symmetric_outputs_is_no_swap_and_no_transpose(port, forward):
    text = cause(port, module(forward), numbers(4, 6))
    assert "(1 + 1.0e-08) times that of torch" in text


def test_a_small_number_that_is_added_is_no_factor():
    text = cause(lambda p, x: 5 + jnp.tanh(x) + 1.2e-5, module(lambda m, x: 5 + torch.tanh(x)), numbers(4, 6))
    assert "times that of torch" not in text


def test_a_sign():
    text = cause(lambda p, x: -jnp.tanh(x), module(lambda m, x: torch.tanh(x)), numbers(4, 6))
    assert text.endswith("times that of torch: look at a sign")


@pytest.mark.filterwarnings("error")
def test_an_output_that_is_not_finite_leaves_no_warning():
    hidden = module(lambda m, x: x.masked_fill(x < 0, -torch.inf))
    assert judged(lambda p, x: jnp.where(x < 0, -jnp.inf, 2 * x), hidden, numbers(4, 6)).outcome is Outcome.DISAGREE


def test_a_transpose():
    square = module(lambda m, x: x @ x.mT @ x)
    assert cause(lambda p, x: (x @ x.T @ x).T, square, numbers(5, 5)) == "output 0 is transposed in the port"


def test_parameters_that_get_no_gradient():
    stopped = lambda p, x: jnp.tanh(linear(jax.tree.map(jax.lax.stop_gradient, p), "l", x))
    assert cause(stopped, layer(), numbers(3, 6)).startswith("no gradient reaches any parameter in the port")


def test_another_derivative_at_exactly_zero():
    x = numbers(3, 6)
    x[0, :3] = 0
    half = lambda p, x: jnp.maximum(x, 0) ** 1 + 0 * x  # its derivative at 0 is one half
    assert "differs only where 'x' is exactly 0" in cause(half, module(lambda m, x: torch.relu(x)), x)


def test_nothing_of_the_kind():
    wrong = lambda p, x: jnp.tanh(linear(p, "l", x)) + 0.1 * jnp.sin(x[:, :4])
    assert "layout" in cause(wrong, layer(), numbers(3, 6))
    assert np.isfinite(numbers(3, 6)).all()
