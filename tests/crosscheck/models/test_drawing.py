"""Random problems depend only on their seed, and defaults are moved away from values that hide mistakes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import numpy as np
import torch

from crosscheck.models.drawing import UNKIND, made, numbers, sizes


def test_sizes_differ_from_one_another():
    for seed in range(20):
        drawn = sizes(np.random.default_rng(seed), 5, low=3, high=8)
        assert len(set(drawn)) == 5
        assert set(drawn) <= set(range(3, 9))


def test_a_module_depends_on_the_seed_and_not_on_torch():
    def weight(seed):
        return made(np.random.default_rng(seed), lambda: torch.nn.Linear(3, 2)).weight

    torch.manual_seed(1)
    first = weight(0)
    torch.manual_seed(2)
    assert torch.equal(weight(0), first)
    assert not torch.equal(weight(1), first)


def test_a_spread_moves_parameters_and_statistics_and_keeps_variances_positive():
    module = made(np.random.default_rng(0), lambda: torch.nn.BatchNorm1d(50), spread=1.0)
    assert not torch.any(module.weight == 1)
    assert not torch.any(module.running_mean == 0)
    assert torch.all(module.running_var > 0)
    assert module.num_batches_tracked == 0


def test_about_one_draw_in_seven_is_unkind():
    rng = np.random.default_rng(0)
    large = [np.abs(numbers(rng, 20, unkind=("large",))).max() > 50 for _ in range(700)]
    assert 60 < sum(large) < 140


def test_no_unkind_way_makes_another_shape():
    x = np.random.default_rng(0).normal(size=(3, 5))
    assert all(change(x).shape == x.shape for change in UNKIND.values())
