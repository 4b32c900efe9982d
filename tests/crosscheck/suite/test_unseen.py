"""The verdict of an agreeing pair lists the mistakes that its inputs cannot show."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from crosscheck.core.finding import Outcome
from tests.support.pairs import judged, linear, module, not_shown, numbers, parameter

pytestmark = pytest.mark.isa


def masked():
    return module(lambda m, x, mask: (m.l(x) * mask[..., None]).sum(1), l=lambda: torch.nn.Linear(6, 4))


def port_of_masked(p, x, mask):
    return (linear(p, "l", x) * mask[..., None]).sum(1)


def test_inputs_that_show_everything_leave_no_line():
    mask = np.random.default_rng(0).random((3, 7)) < 0.6
    assert not_shown(port_of_masked, masked(), numbers(3, 7, 6), mask) == []


def test_a_mask_of_all_ones():
    ones = np.ones((3, 7), bool)
    line, inside = not_shown(lambda p, x, mask: linear(p, "l", x).sum(1), masked(), numbers(3, 7, 6), ones)
    assert inside.startswith("in the torch module a mask in a product is true everywhere")
    assert line == "every number of 'mask' is True: a port that ignores it may pass. Draw it at random"


def test_a_batch_of_one():
    (line,) = not_shown(
        lambda p, x: linear(p, "l", x), module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4)), numbers(1, 6)
    )
    assert line.startswith("'x' has length 1 in axis 0")


def test_an_integer_input_that_changes_nothing():
    ignores = module(lambda m, x, t: m.l(x) + 0 * t.sum(), l=lambda: torch.nn.Linear(6, 4))
    tokens = np.random.default_rng(0).integers(0, 9, 5)
    (line,) = not_shown(lambda p, x, t: linear(p, "l", x), ignores, numbers(3, 6), tokens)
    assert line == "no output changes with 't': a port that ignores it passes"


def test_rows_that_are_all_the_same():
    gather = module(lambda m, x, t: x.gather(1, t) * m.w[:3], w=parameter(6))
    port = lambda p, x, t: jnp.take_along_axis(x, t, 1) * p["w"][:3]
    (line,) = not_shown(port, gather, numbers(4, 6), np.tile([0, 4, 2], (4, 1)))
    assert line == "'t' is the same in every row: a port that takes it from another row passes"


def test_numbers_of_one_sign():
    (line,) = not_shown(lambda p, x: jnp.abs(x) ** 3, module(lambda m, x: x**3), 0.1 + numbers(3, 6) ** 2)
    assert line == "no number of 'x' is negative or 0: what happens to those cannot be seen"


def test_a_keyword_argument_that_is_one_number():
    port = lambda p, x: linear(p, "l", x).sum(1)
    (line,) = not_shown(
        port, masked(), numbers(3, 7, 6), torch_fn=lambda m, x, mask: m(x, mask), torch_kwargs={"mask": np.ones((3, 7))}
    )
    assert line == "every number of 'mask' is 1.0: a port that ignores it may pass. Draw it at random"


@pytest.mark.parametrize("last", [np.array([4]), np.array(4), np.array(True), np.array(0, np.uint8)])
def test_a_single_integer(last):
    ignores = module(lambda m, x, last: m.l(x) + 0 * last.sum(), l=lambda: torch.nn.Linear(6, 4))
    expected = ["no output changes with 'last': a port that ignores it passes"]
    assert not_shown(lambda p, x, last: linear(p, "l", x), ignores, numbers(3, 6), last) == expected
    uses = module(lambda m, x, last: m.l(x) + last.sum(), l=lambda: torch.nn.Linear(6, 4))
    assert not_shown(lambda p, x, last: linear(p, "l", x) + last.sum(), uses, numbers(3, 6), last) == []


def test_a_single_integer_that_matters_if_it_is_far_larger():
    bounded = module(lambda m, x, n: m.l(x) * (1 + (n > 9)), l=lambda: torch.nn.Linear(6, 4))
    assert not_shown(lambda p, x, n: linear(p, "l", x) * (1 + (n > 9)), bounded, numbers(3, 6), np.array(4)) == []


def test_a_length_that_cannot_grow():
    cut = module(lambda m, x, n: m.l(x)[torch.arange(5)[:n] + n - 5].sum(0), l=lambda: torch.nn.Linear(6, 4))
    assert not_shown(lambda p, x, n: linear(p, "l", x).sum(0), cut, numbers(5, 6), np.array(5)) == []


def test_static_inputs():
    either = module(lambda m, x, causal: x.cumsum(1) if causal else x.flip(1))
    port = lambda p, x, causal: jnp.cumsum(x, 1) if causal else jnp.flip(x, 1)
    assert not_shown(port, either, numbers(3, 6), False) == [
        "'causal' is False in this check: other values are not compared"
    ]


def with_buffers(function, **buffers):
    made = module(function, l=lambda: torch.nn.Linear(6, 4))
    for name, value in buffers.items():
        made.register_buffer(name, value)
    return made


@pytest.mark.parametrize("value", [torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.long)])
def test_integers_and_bools_in_buffers(value):
    uses = with_buffers(lambda m, x: m.l(x) * (1 + m.kind.double()), kind=value, count=torch.tensor(0))
    (line,) = not_shown(lambda p, x: linear(p, "l", x) * (1 + value.double().numpy()), uses, numbers(3, 6))
    assert line.startswith("the buffers 'kind' have their default values")


def test_a_count_of_batches_leaves_no_line():
    options = {"buffers": {"running_mean": numbers(6), "running_var": 1 + numbers(6) ** 2}}
    mean, var = options["buffers"].values()
    port = lambda p, x: (x - mean) / jnp.sqrt(var + 1e-5) * p["weight"] + p["bias"]
    norm = torch.nn.BatchNorm1d(6)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(numbers(6)))
        norm.bias.copy_(torch.tensor(numbers(6)))
    assert not_shown(port, norm, numbers(3, 6), **options) == []


def test_more_lines_than_a_reader_wants():
    inputs = [np.ones((2, 3)) for _ in range(12)]
    verdict = judged(lambda p, *xs: sum(xs), module(lambda m, *xs: sum(xs)), *inputs)
    assert len(verdict.not_shown) == 13
    shown = [line for line in str(verdict).splitlines() if line.startswith("not shown by these inputs")]
    assert len(shown) == 11
    assert shown[-1] == "not shown by these inputs: 3 more, in Verdict.not_shown"


def test_cotangents_that_are_special():
    layer = module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4))
    found = lambda cotangents, rows: not_shown(
        lambda p, x: linear(p, "l", x), layer, numbers(rows, 6), cotangents=cotangents
    )
    (line,) = found(np.ones((3, 4)), 3)
    assert line == (
        "the cotangent of 'output 0' is one number everywhere: a backward pass that transposes or sums it may pass"
    )
    (line,) = found(np.diag([1.0, 2.0, 3.0, 4.0]), 4)
    assert line.startswith("the cotangent of 'output 0' is symmetric")


def test_inputs_that_hold_the_same_numbers():
    pair = module(lambda m, x, a, b: m.l(x)[a] - x[b, :4], l=lambda: torch.nn.Linear(6, 4))
    port = lambda p, x, a, b: linear(p, "l", x)[a] - x[a, :4]
    (line,) = not_shown(port, pair, numbers(3, 6), np.array([2, 0, 1]), np.array([2, 0, 1]))
    assert line == "'a' and 'b' hold the same numbers: a port that takes one for the other passes"


def test_a_precision_check_that_did_not_run():
    layer = module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4))
    found = lambda dtypes: not_shown(lambda p, x: linear(p, "l", x), layer, numbers(3, 6), dtypes=dtypes)
    assert found(["float64"]) == ["the float32 check did not run"]
    assert found(["float32"]) == ["the float64 check did not run: only it tells a wrong function from rounding"]


def test_parameters_as_at_initialisation():
    """At initialisation (w = 1, b = 0), (x + b) w equals x w + b."""
    norm = module(lambda m, x: m.n(m.l(x)), n=lambda: torch.nn.LayerNorm(4), l=lambda: torch.nn.Linear(6, 4))

    def port(p, x):
        y = linear(p, "l", x)
        y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
        return (y + p["n.bias"]) * p["n.weight"]

    (line,) = not_shown(port, norm, numbers(3, 6))
    assert line.startswith("every number of the parameters 'n.weight', 'n.bias' is the same")


def test_a_matrix_that_is_symmetric():
    a = numbers(5, 5)
    graph = module(lambda m, x, a: a.to(x.dtype) @ m.l(x), l=lambda: torch.nn.Linear(6, 4))
    port = lambda p, x, a: a.T.astype(x.dtype) @ linear(p, "l", x)
    assert judged(port, graph, numbers(5, 6), a).outcome is Outcome.DISAGREE
    (line,) = not_shown(port, graph, numbers(5, 6), (a + a.T) > 0)
    assert line == "'a' is symmetric: a port that transposes it passes"
    with_buffer = module(lambda m, x: m.a @ m.l(x), l=lambda: torch.nn.Linear(6, 4))
    with_buffer.register_buffer("a", torch.tensor(a + a.T))
    (line,) = not_shown(lambda p, x: (a + a.T) @ linear(p, "l", x), with_buffer, numbers(5, 6))
    assert line == "'a' is symmetric: a port that transposes it passes"


def test_a_parameter_whose_gradient_is_not_asked_for():
    layer = module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4))
    (line,) = not_shown(lambda p, x: linear(p, "l", x), layer, numbers(3, 6), wrt=("x", "l.weight"))
    assert line == "no gradient with respect to 'l.bias' is compared: wrt leaves it out"
    (line,) = not_shown(lambda p, x: linear(p, "l", x), layer, numbers(3, 6), wrt=("l.weight", "l.bias"))
    assert line == "no gradient with respect to 'x' is compared: wrt leaves it out"


def test_a_small_influence():
    slight = module(lambda m, x, t: m.l(x) + 1e-11 * t, l=lambda: torch.nn.Linear(6, 4))
    assert not_shown(lambda p, x, t: linear(p, "l", x) + 1e-11 * t, slight, numbers(3, 6), np.array([0, 3, 1, 2])) == []


def test_second_derivatives_are_named_until_they_are_compared():
    @jax.custom_jvp
    def cubed(x):
        return x**3

    cubed.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * jax.lax.stop_gradient(primals[0] ** 2) * tangents[0]))
    cube = module(lambda m, x: m.w * x**3, w=parameter(6))
    wrong = lambda p, x: p["w"] * cubed(x)
    verdict = judged(wrong, cube, numbers(3, 6))
    assert verdict, str(verdict)
    assert verdict.not_shown[-1].startswith("second derivatives: second_order=True")
    assert judged(wrong, cube, numbers(3, 6), second_order=True).outcome is Outcome.DISAGREE
    right = judged(lambda p, x: p["w"] * x**3, cube, numbers(3, 6), second_order=True)
    assert right, str(right)
    assert right.not_shown == ()


def test_a_second_derivative_that_is_zero_in_torch_must_be_zero_in_the_port():
    affine = module(lambda m, x: m.l(x) ** 2 + m.b, l=lambda: torch.nn.Linear(6, 4), b=parameter(4))
    right = lambda p, x: linear(p, "l", x) ** 2 + p["b"]
    assert judged(right, affine, numbers(3, 6), second_order=True)

    def bent(p, x):
        extra = jnp.sin(p["b"]) - jax.lax.stop_gradient(jnp.sin(p["b"]))
        return right(p, x) + 1e-3 * extra

    assert judged(bent, affine, numbers(3, 6), second_order=True).outcome is Outcome.DISAGREE
