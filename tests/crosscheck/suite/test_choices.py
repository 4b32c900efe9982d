"""The verdict names the choices (such as a branch) that a forward pass of a torch module shows from only one side."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.scipy.ndimage import map_coordinates

from crosscheck.core.inside.choices import _CHOICES, one_side
from crosscheck.core.inside.watch import Watch
from tests.support.pairs import judged, linear, module, not_shown, numbers

pytestmark = pytest.mark.isa


def test_choices_of_which_only_one_side_was_seen():
    def forward(m, x):
        x = x.masked_fill(x > 100, 0.0)
        return torch.where(x > -100, m.l(x).clamp(-50, 50), 0.0)

    found = not_shown(lambda p, x: linear(p, "l", x), module(forward, l=lambda: torch.nn.Linear(6, 6)), numbers(3, 6))
    assert [line.partition(" at ")[0] for line in found] == [
        "in the torch module a mask is false everywhere",
        "in the torch module no number is beyond the lower bound or the upper bound of clamp",
        "in the torch module the condition of where is true everywhere",
    ]
    assert all("test_choices.py:" in line for line in found)


@pytest.mark.parametrize("window", [9, 3])
def test_a_window_that_is_longer_than_the_input(window):
    def forward(m, x):
        far = torch.arange(5)[:, None] - torch.arange(5)
        return torch.where((far >= 0) & (far < window), m.l(x) @ x.T, 0.0).sum(-1)

    def port(p, x):
        far = jnp.arange(5)[:, None] - jnp.arange(5)
        return jnp.where((far >= 0) & (far < window), linear(p, "l", x) @ x.T, 0.0).sum(-1)

    found = not_shown(port, module(forward, l=lambda: torch.nn.Linear(6, 6)), numbers(5, 6))
    assert [line.partition(" at ")[0] for line in found] == [
        'in the torch module a mask in "and" is true everywhere'
    ] * (window == 9)


MASKS = {
    'a mask in "or" is false everywhere': lambda x: x.masked_fill((x > 9) | (x > 0), 0.0),
    "a mask in a product is true everywhere": lambda x: x * (x < 9),
    "tril keeps every number": lambda x: x.tril(6),
    "triu keeps every number": lambda x: x.triu(-3),
}


@pytest.mark.parametrize("text", MASKS)
def test_masks_without_effect(text):
    port = (lambda p, x: jnp.where(x > 0, 0.0, x)) if '"or"' in text else lambda p, x: x
    (line,) = not_shown(port, module(lambda m, x: MASKS[text](x)), numbers(3, 6))
    assert line.partition(" at ")[0] == f"in the torch module {text}"


def test_class_weights_that_are_all_the_same():
    def forward(m, x, y):
        return torch.nn.functional.cross_entropy(m.l(x), y, x.new_ones(4), ignore_index=0)

    def port(p, x, y):
        logs = jax.nn.log_softmax(linear(p, "l", x))
        return -(jnp.take_along_axis(logs, y[:, None], 1)[:, 0] * (y > 0)).sum() / (y > 0).sum()

    loss = module(forward, l=lambda: torch.nn.Linear(6, 4))
    (line,) = not_shown(port, loss, numbers(5, 6), np.array([0, 3, 1, 2, 3]))
    assert line.startswith("in the torch module all class weights are the same")


def test_an_index_that_never_stands_twice():
    add = module(lambda m, x, index: torch.zeros(9, 4, dtype=x.dtype).index_add(0, index, x))
    port = lambda p, x, index: jnp.zeros((9, 4), x.dtype).at[index].set(x)
    (line,) = not_shown(port, add, numbers(5, 4), np.array([3, 1, 8, 0, 5]))
    assert line.startswith("in the torch module no index of index_add stands twice at test_choices.py:")


def test_a_branch_on_the_data():
    def forward(m, x):
        return m.l(x) if x.sum() > -1e9 else x

    (line,) = not_shown(lambda p, x: linear(p, "l", x), module(forward, l=lambda: torch.nn.Linear(6, 6)), numbers(3, 6))
    assert line.startswith("in the torch module the branch for True is taken at test_choices.py:")


def test_a_padding_token_that_does_not_occur():
    table = torch.nn.Embedding(9, 4, padding_idx=0)
    tokens = np.random.default_rng(0).integers(1, 9, (3, 5))
    (line,) = not_shown(lambda p, t: p["weight"][t], table, tokens)
    assert line.startswith("in the torch module no index is the padding index 0")


def test_checks_of_torchs_own_arguments_leave_no_line():
    def forward(m, x):
        normal = torch.distributions.Normal(m.l(x), 1 + x.square())
        return normal.log_prob(x)

    def port(p, x):
        scale = 1 + x**2
        return -((x - linear(p, "l", x)) ** 2) / (2 * scale**2) - jnp.log(scale) - jnp.log(2 * jnp.pi) / 2

    assert not_shown(port, module(forward, l=lambda: torch.nn.Linear(6, 6)), numbers(3, 6)) == []


COMPOSED = {
    "logdet": (
        lambda m, x: torch.logdet(x.T @ x + torch.eye(6)),
        lambda p, x: jnp.linalg.slogdet(x.T @ x + jnp.eye(6))[1],
    ),
    "quantile": (lambda m, x: torch.quantile(x, 0.3, dim=0), lambda p, x: jnp.quantile(x, 0.3, axis=0)),
    "corrcoef": (lambda m, x: torch.corrcoef(x)[0, 1:], lambda p, x: jnp.corrcoef(x)[0, 1:]),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_choices_of_functions_that_are_composed_leave_no_line(name):
    forward, port = COMPOSED[name]
    assert not_shown(port, module(forward), numbers(3, 6)) == []


def test_a_module_that_reads_a_number():
    def forward(m, x):
        return m.l(x) * min(1.0, 100 / x.norm().detach().item())

    (line,) = not_shown(lambda p, x: linear(p, "l", x), module(forward, l=lambda: torch.nn.Linear(6, 4)), numbers(3, 6))
    assert line.startswith("in the torch module a number is read from a tensor: a branch on it shows one side")


def test_weights_of_a_positive_class_that_are_all_the_same():
    loss = module(lambda m, x, y: F.binary_cross_entropy_with_logits(m.l(x), y, pos_weight=torch.ones(4)),
                  l=lambda: torch.nn.Linear(6, 4))  # fmt: skip

    def port(p, x, y):
        z = linear(p, "l", x)
        return jnp.mean((1 - y) * z + jax.nn.softplus(-z))

    of_sign, line = not_shown(port, loss, numbers(3, 6), np.random.default_rng(0).random((3, 4)))
    assert of_sign.startswith("no number of 'y' is negative")
    assert line.startswith("in the torch module all weights of the positive class are the same")


def test_a_mask_that_chooses_every_number():
    (line,) = not_shown(lambda p, x: x.sum(), module(lambda m, x: x[x > -99].sum()), numbers(3, 6))
    assert line.startswith("in the torch module a mask that chooses numbers is true everywhere at test_choices.py")
    both = lambda p, x: jnp.where(x > 0, x, 0).sum()
    assert not_shown(both, module(lambda m, x: x[x > 0].sum()), numbers(3, 6)) == []


def _bilinear(image, places):
    """Sample an image at (place, place), from -1 to 1 along each axis."""
    rows, columns = ((places + 1) / 2 * (size - 1) for size in image.shape)
    return map_coordinates(image, [rows, columns], order=1)[None, None]


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
    "no number is between the bounds of softshrink": (lambda m, x: F.softshrink(2 + x), lambda p, x: 1.5 + x),
    "every number is between the bounds of hardshrink": (lambda m, x: F.hardshrink(x) + x, lambda p, x: x),
    "every number is beyond the bound of threshold": (lambda m, x: F.threshold(x, -5, 3), lambda p, x: x),
    "no number is beyond the threshold of softplus": (
        lambda m, x: F.softplus(x, 2.0, 5.0),
        lambda p, x: jax.nn.softplus(2 * x) / 2,
    ),
    "an activation sees only positive numbers": (lambda m, x: F.celu(2 + x), lambda p, x: 2 + x),
    "the first argument of minimum always wins": (
        lambda m, x: x * torch.minimum(x.new_ones(()), 10 / x.norm()),
        lambda p, x: x,
    ),
    "atan2 sees no negative second argument": (
        lambda m, x: torch.atan2(x, 2 + x),
        lambda p, x: jnp.arctan(x / (2 + x)),
    ),
    "nan_to_num sees only finite numbers": (lambda m, x: x.nan_to_num(), lambda p, x: x),
    "floor sees no negative number": (lambda m, x: x + (2 + x).floor(), lambda p, x: x + jnp.trunc(2 + x)),
    "a division that rounds sees no negative quotient": (
        lambda m, x: x + torch.arange(6) // 4,
        lambda p, x: x + jnp.trunc(jnp.arange(6) / 4),
    ),
    "no coordinate of grid_sample is outside": (
        lambda m, x: F.grid_sample(x[None, None], x[None, :2, :2, None] * torch.ones(2), align_corners=True),
        lambda p, x: _bilinear(x, x[:2, :2]),
    ),
    "no index of scatter_add stands twice": (
        lambda m, x: torch.zeros(3, 9, dtype=x.dtype).scatter_add(1, torch.tensor([[0, 2, 5]] * 3), x[:, :3]),
        lambda p, x: jnp.zeros((3, 9), x.dtype).at[:, jnp.array([0, 2, 5])].set(x[:, :3]),
    ),
    "no index of index_put stands twice": (
        lambda m, x: torch.zeros(9, dtype=x.dtype).index_put((torch.tensor([1, 4, 5]),), x[0, :3], accumulate=True),
        lambda p, x: jnp.zeros(9, x.dtype).at[jnp.array([1, 4, 5])].set(x[0, :3]),
    ),
    "a remainder is taken only of numbers that are not negative": (
        lambda m, x: x + torch.arange(6) % 4,
        lambda p, x: x + jnp.arange(6) % 4,
    ),
}


@pytest.mark.parametrize("text", CHOICES)
def test_choices_by_operation(text):
    forward, port = CHOICES[text]
    (line,) = not_shown(port, module(forward), NARROW)
    assert line.partition(" at ")[0] == f"in the torch module {text}"


def test_operations_in_place_are_seen_before_they_change_their_argument():
    clipped = module(lambda m, x: (1 * m.l(x)).clamp_(-0.1, 0.1), l=lambda: torch.nn.Linear(6, 20))
    assert not_shown(lambda p, x: jnp.clip(linear(p, "l", x), -0.1, 0.1), clipped, numbers(3, 6)) == []


def test_an_operation_that_is_called_in_an_unknown_way_leaves_no_line():
    for name in _CHOICES:
        assert one_side(name, (), {}) == one_side(name, (None,) * 3, {}) == ""


CALLS = {
    "topk takes every number": lambda x: x.topk(5),
    "no coordinate of grid_sample is outside": lambda x: F.grid_sample(
        torch.ones(1, 1, 3, 3, 3), torch.full((1, 2, 2, 2, 3), 0.5), align_corners=True
    ),
    "no label is the ignored index -100": lambda x: F.cross_entropy(
        torch.ones(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    ),
    "an activation sees only positive numbers": lambda x: F.prelu(x, torch.tensor([0.1])),
    "trunc sees no negative number": lambda x: x.trunc(),
    "a mask that chooses numbers is true everywhere": lambda x: x.masked_select(x > 0),
    "no index of scatter_reduce stands twice": lambda x: torch.zeros(9).scatter_reduce(
        0, torch.tensor([1, 2]), torch.ones(2), "sum"
    ),
    "no number is beyond the lower bound or the upper bound of clamp": lambda x: F.hardtanh(x / 9),
    "a division that rounds sees no negative quotient": lambda x: torch.floor_divide(x, 2),
    "the first argument of minimum always wins": lambda x: torch.fmin(x, x + 1),
    "a remainder is taken only of numbers that are not negative": lambda x: torch.fmod(x, 2),
    "no index of index_put stands twice": lambda x: x.clone().index_put_(
        (torch.tensor([0, 2]), torch.tensor([1, -1])), torch.ones(2), accumulate=True
    ),
    "": lambda x: (
        x.clone().index_put_((torch.tensor([0, 0]), torch.tensor([4, -1])), torch.ones(2), accumulate=True),
        torch.full((3,), x[0, 0].detach()), torch.arange(0, x[0, 0]),
        x.clamp(min=torch.full((5,), 1.1), max=torch.full((5,), 1.2)),
        x.masked_scatter(x > 1.2, x), F.softplus(x), 5 % x, x / 2, torch.ones(3, dtype=torch.complex64) * 2,
        F.relu(torch.empty(0)), torch.nn.AdaptiveLogSoftmaxWithLoss(5, 4, [2])(x, torch.tensor([0, 1, 3])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", CALLS)
def test_every_rule_knows_how_torch_calls_its_operation(text, monkeypatch):
    monkeypatch.setattr("crosscheck.core.inside.choices._OTHER_CALL", ())
    x = torch.tensor(1 + numbers(3, 5) ** 2 / 4).float()
    with Watch() as watch:
        CALLS[text](x)
    assert [line.partition(" at ")[0] for line in watch.one_sided] == [text] * bool(text)


def test_a_token_that_never_stands_twice_with_gradients_by_frequency():
    table = module(lambda m, i: m.t(i), t=lambda: torch.nn.Embedding(9, 4, scale_grad_by_freq=True))
    (line,) = not_shown(lambda p, i: p["t.weight"][i], table, np.array([1, 4, 0]))
    assert line.startswith("in the torch module no index stands twice, with scale_grad_by_freq")


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

    assert not_shown(port, module(forward), numbers(3, 6)) == []


@pytest.mark.parametrize("size", [3, 2])
def test_indices_whose_order_does_not_matter(size):
    bag = module(lambda m, i: m.table(i[None]), table=lambda: torch.nn.EmbeddingBag(9, 4, mode="sum"))
    tokens = np.array([0, 3, 1])[:size]
    assert not_shown(lambda p, i: p["table.weight"][i].sum(0)[None], bag, tokens) == []
    pick = module(lambda m, i: m.table(i), table=lambda: torch.nn.Embedding(9, 4))
    assert not_shown(lambda p, i: p["table.weight"][i], pick, tokens) == []


def test_an_activation_that_is_given_directly_has_no_place():
    verdict = judged(lambda p, x: x, torch.nn.ReLU(), 1 + numbers(3, 6) ** 2)
    assert "in the torch module an activation sees only positive numbers" in verdict.not_shown
