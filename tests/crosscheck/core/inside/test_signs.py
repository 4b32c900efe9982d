"""The signs of errors are the same in NumPy, JAX and torch, and equal numbers get equal signs."""

from __future__ import annotations

from tests.support.requirements import need

torch = need("torch")

import jax.numpy as jnp
import numpy as np

from crosscheck.core.inside.jax_signs import signs_in_jax
from crosscheck.core.inside.torch_modes import torch_signs
from crosscheck.core.problem import Problem
from crosscheck.core.signs import has_ties, signs_of


def test_the_three_give_the_same_signs_and_half_of_them_are_negative():
    a = np.random.default_rng(0).normal(size=10_000)
    for seed in (0, 7, 2**61 + 5):
        signs = signs_of(a, seed)
        np.testing.assert_array_equal(signs, signs_in_jax(jnp.asarray(a), np.uint64(seed)))
        np.testing.assert_array_equal(signs, torch_signs(torch.tensor(a), seed))
        assert abs(signs.mean()) < 0.05
    assert np.mean(signs_of(a, 1) == signs_of(a, 2)) < 0.55


def test_round_numbers_do_not_all_get_the_same_sign():
    a = np.array([0.25, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0])
    assert all(len({*signs_of(a, seed)}) == 2 for seed in range(20))


def test_equal_numbers_move_equally_if_there_are_ties():
    quantised = np.round(np.random.default_rng(0).normal(size=(50, 4)))
    assert has_ties(quantised)
    assert not has_ties(np.array([0.0, 0.0, 1.0, 2.0]))
    problem = Problem({}, (quantised,), ("x",), (), (), ())
    (moved,) = problem.perturbed(np.random.default_rng(1), 1e-3).inputs
    assert np.any(moved != quantised)
    for value in np.unique(quantised):
        assert len(np.unique(moved[quantised == value])) == 1
