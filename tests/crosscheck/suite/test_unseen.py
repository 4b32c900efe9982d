"""What the inputs of an agreeing pair cannot show is said under the verdict."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from crosscheck.core.finding import Outcome
from tests.support.pairs import judged, linear, module, numbers, parameter


def lines(port, reference, *inputs, **options):
    verdict = judged(port, reference, *inputs, **options)
    assert verdict, str(verdict)
    return [line for line in verdict.not_shown if not line.startswith("second derivatives")]


def masked():
    return module(lambda m, x, mask: (m.l(x) * mask[..., None]).sum(1), l=lambda: torch.nn.Linear(6, 4))


def port_of_masked(p, x, mask):
    return (linear(p, "l", x) * mask[..., None]).sum(1)


def test_inputs_that_show_everything_leave_no_line():
    mask = np.random.default_rng(0).random((3, 7)) < 0.6
    assert lines(port_of_masked, masked(), numbers(3, 7, 6), mask) == []


def test_a_mask_of_all_ones():
    (line,) = lines(lambda p, x, mask: linear(p, "l", x).sum(1), masked(), numbers(3, 7, 6), np.ones((3, 7), bool))
    assert line == "every number of 'mask' is True: a port that ignores it may pass. Draw it at random"


def test_a_batch_of_one():
    (line,) = lines(
        lambda p, x: linear(p, "l", x), module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4)), numbers(1, 6)
    )
    assert line.startswith("'x' has length 1 in axis 0")


def test_an_integer_input_that_changes_nothing():
    ignores = module(lambda m, x, t: m.l(x) + 0 * t.sum(), l=lambda: torch.nn.Linear(6, 4))
    tokens = np.random.default_rng(0).integers(0, 9, 5)
    (line,) = lines(lambda p, x, t: linear(p, "l", x), ignores, numbers(3, 6), tokens)
    assert line == "no output changes with 't': a port that ignores it passes"


def test_choices_of_which_only_one_side_was_seen():
    def forward(m, x):
        x = x.masked_fill(x > 100, 0.0)
        return torch.where(x > -100, m.l(x).clamp(-50, 50), 0.0)

    found = lines(lambda p, x: linear(p, "l", x), module(forward, l=lambda: torch.nn.Linear(6, 6)), numbers(3, 6))
    assert [line.partition(" at ")[0] for line in found] == [
        "in the torch module a mask is false everywhere",
        "in the torch module no number is beyond the lower bound or the upper bound of clamp",
        "in the torch module the condition of where is true everywhere",
    ]
    assert all("test_unseen.py:" in line for line in found)


def test_rows_that_are_all_the_same():
    gather = module(lambda m, x, t: x.gather(1, t) * m.w[:3], w=parameter(6))
    port = lambda p, x, t: jnp.take_along_axis(x, t, 1) * p["w"][:3]
    (line,) = lines(port, gather, numbers(4, 6), np.tile([0, 4, 2], (4, 1)))
    assert line == "'t' is the same in every row: a port that takes it from another row passes"


def test_class_weights_that_are_all_the_same():
    def forward(m, x, y):
        return torch.nn.functional.cross_entropy(m.l(x), y, x.new_ones(4), ignore_index=0)

    def port(p, x, y):
        logs = jax.nn.log_softmax(linear(p, "l", x))
        return -(jnp.take_along_axis(logs, y[:, None], 1)[:, 0] * (y > 0)).sum() / (y > 0).sum()

    loss = module(forward, l=lambda: torch.nn.Linear(6, 4))
    (line,) = lines(port, loss, numbers(5, 6), np.array([0, 3, 1, 2, 3]))
    assert line.startswith("in the torch module all class weights are the same")


def test_numbers_of_one_sign():
    (line,) = lines(lambda p, x: jnp.abs(x) ** 3, module(lambda m, x: x**3), 0.1 + numbers(3, 6) ** 2)
    assert line == "no number of 'x' is negative or 0: what happens to those cannot be seen"


def test_an_index_that_never_stands_twice():
    add = module(lambda m, x, index: torch.zeros(9, 4, dtype=x.dtype).index_add(0, index, x))
    port = lambda p, x, index: jnp.zeros((9, 4), x.dtype).at[index].set(x)
    (line,) = lines(port, add, numbers(5, 4), np.array([3, 1, 8, 0, 5]))
    assert line.startswith("in the torch module no index of index_add stands twice at test_unseen.py:")


def test_a_branch_on_the_data():
    def forward(m, x):
        return m.l(x) if x.sum() > -1e9 else x

    (line,) = lines(lambda p, x: linear(p, "l", x), module(forward, l=lambda: torch.nn.Linear(6, 6)), numbers(3, 6))
    assert line.startswith("in the torch module the module takes the branch for True at test_unseen.py:")


def test_a_padding_token_that_does_not_occur():
    table = torch.nn.Embedding(9, 4, padding_idx=0)
    tokens = np.random.default_rng(0).integers(1, 9, (3, 5))
    (line,) = lines(lambda p, t: p["weight"][t], table, tokens)
    assert line.startswith("in the torch module no index is the padding index 0")


def test_a_keyword_argument_that_is_one_number():
    port = lambda p, x: linear(p, "l", x).sum(1)
    (line,) = lines(
        port, masked(), numbers(3, 7, 6), torch_fn=lambda m, x, mask: m(x, mask), torch_kwargs={"mask": np.ones((3, 7))}
    )
    assert line == "every number of 'mask' is 1.0: a port that ignores it may pass. Draw it at random"


@pytest.mark.parametrize("last", [np.array([4]), np.array(4), np.array(True), np.array(0, np.uint8)])
def test_a_single_integer(last):
    ignores = module(lambda m, x, last: m.l(x) + 0 * last.sum(), l=lambda: torch.nn.Linear(6, 4))
    expected = ["no output changes with 'last': a port that ignores it passes"]
    assert lines(lambda p, x, last: linear(p, "l", x), ignores, numbers(3, 6), last) == expected
    uses = module(lambda m, x, last: m.l(x) + last.sum(), l=lambda: torch.nn.Linear(6, 4))
    assert lines(lambda p, x, last: linear(p, "l", x) + last.sum(), uses, numbers(3, 6), last) == []


def test_a_length_that_cannot_grow():
    cut = module(lambda m, x, n: m.l(x)[torch.arange(5)[:n] + n - 5].sum(0), l=lambda: torch.nn.Linear(6, 4))
    assert lines(lambda p, x, n: linear(p, "l", x).sum(0), cut, numbers(5, 6), np.array(5)) == []


def test_static_inputs():
    either = module(lambda m, x, causal: x.cumsum(1) if causal else x.flip(1))
    port = lambda p, x, causal: jnp.cumsum(x, 1) if causal else jnp.flip(x, 1)
    assert lines(port, either, numbers(3, 6), False) == [
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
    (line,) = lines(lambda p, x: linear(p, "l", x) * (1 + value.double().numpy()), uses, numbers(3, 6))
    assert line.startswith("the buffers 'kind' have their default values")


def test_a_count_of_batches_leaves_no_line():
    options = {"buffers": {"running_mean": numbers(6), "running_var": 1 + numbers(6) ** 2}}
    mean, var = options["buffers"].values()
    port = lambda p, x: (x - mean) / jnp.sqrt(var + 1e-5) * p["weight"] + p["bias"]
    assert lines(port, torch.nn.BatchNorm1d(6), numbers(3, 6), **options) == []


def test_more_choices_than_a_reader_wants():
    def named(m, x):
        a = x.masked_fill(x > 100, 0.0)
        b = a.masked_fill(x > 101, 0.0)
        c = b.masked_fill(x > 102, 0.0)
        d = c.masked_fill(x > 103, 0.0)
        e = d.masked_fill(x > 104, 0.0)
        return m.l(e.masked_fill(x > 105, 0.0))

    found = lines(lambda p, x: linear(p, "l", x), module(named, l=lambda: torch.nn.Linear(6, 6)), numbers(3, 6))
    assert len(found) == 5
    assert found[-1] == "and 2 more choices of one side"


def test_a_precision_check_that_did_not_run():
    layer = module(lambda m, x: m.l(x), l=lambda: torch.nn.Linear(6, 4))
    found = lambda dtypes: lines(lambda p, x: linear(p, "l", x), layer, numbers(3, 6), dtypes=dtypes)
    assert found(["float64"]) == ["the float32 check did not run"]
    assert found(["float32"]) == ["the float64 check did not run: only it tells a wrong function from rounding"]


F = torch.nn.functional
NARROW = 1e-2 * numbers(3, 6)
CHOICES = {
    "no difference in smooth_l1_loss is larger than beta": (
        lambda m, x: F.smooth_l1_loss(x, 0 * x, beta=0.5),
        lambda p, x: jnp.mean(x**2),
    ),
    "no difference in huber_loss is larger than delta": (
        lambda m, x: F.huber_loss(x, 0 * x, delta=0.5),
        lambda p, x: jnp.mean(x**2) / 2,
    ),
    "no number is beyond the lower bound or the upper bound of hardswish (-3 and 3)": (
        lambda m, x: F.hardswish(x),
        lambda p, x: x * (x + 3) / 6,
    ),
    "no number is beyond the lower bound or the upper bound of hardsigmoid (-3 and 3)": (
        lambda m, x: F.hardsigmoid(x),
        lambda p, x: (x + 3) / 6,
    ),
    "abs sees no negative number": (lambda m, x: (2 + x).abs(), lambda p, x: 2 + x),
    "the first argument of maximum always wins": (lambda m, x: torch.maximum(x, x - 1), lambda p, x: x),
    "the second argument of minimum always wins": (lambda m, x: torch.minimum(x, x - 1), lambda p, x: x - 1),
    "a remainder is taken only of numbers that are not negative": (
        lambda m, x: x + torch.arange(6) % 4,
        lambda p, x: x + jnp.arange(6) % 4,
    ),
}


@pytest.mark.parametrize("text", CHOICES)
def test_choices_by_operation(text):
    forward, port = CHOICES[text]
    (line,) = lines(port, module(forward), NARROW)
    assert line.partition(" at ")[0] == f"in the torch module {text}"


def test_operations_that_show_both_sides():
    def forward(m, x):
        small = x / 100
        losses = F.smooth_l1_loss(x, small, beta=0.5) + F.huber_loss(x, small, delta=0.5)
        hard = F.hardswish(9 * x) + F.hardsigmoid(9 * x)
        return hard + x.abs() + torch.minimum(x, -x) + torch.arange(-3, 3) % 4 + torch.arange(6) % 1 + losses

    def port(p, x):
        d = jnp.abs(0.99 * x)
        bent = lambda scale: jnp.mean(jnp.where(d < 0.5, scale * d**2, scale * (d - 0.25)))
        hard = lambda x: jnp.clip(x + 3, 0, 6) / 6
        both = (1 + 9 * x) * hard(9 * x)
        return both + jnp.abs(x) + jnp.minimum(x, -x) + jnp.arange(-3, 3) % 4 + bent(1.0) + bent(0.5)

    assert lines(port, module(forward), numbers(3, 6)) == []


@pytest.mark.parametrize("size", [3, 2])
def test_indices_whose_order_does_not_matter(size):
    bag = module(lambda m, i: m.table(i[None]), table=lambda: torch.nn.EmbeddingBag(9, 4, mode="sum"))
    tokens = np.array([0, 3, 1])[:size]
    assert lines(lambda p, i: p["table.weight"][i].sum(0)[None], bag, tokens) == []
    pick = module(lambda m, i: m.table(i), table=lambda: torch.nn.Embedding(9, 4))
    assert lines(lambda p, i: p["table.weight"][i], pick, tokens) == []


def test_a_small_influence():
    slight = module(lambda m, x, t: m.l(x) + 1e-11 * t, l=lambda: torch.nn.Linear(6, 4))
    assert lines(lambda p, x, t: linear(p, "l", x) + 1e-11 * t, slight, numbers(3, 6), np.array([0, 3, 1, 2])) == []


def test_an_activation_that_is_given_directly_has_no_place():
    verdict = judged(lambda p, x: x, torch.nn.ReLU(), 1 + numbers(3, 6) ** 2)
    assert "in the torch module an activation sees only positive numbers" in verdict.not_shown


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
