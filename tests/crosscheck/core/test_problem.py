"""The parts of a problem: static leaves, complex numbers, names of quantities, perturbations."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from crosscheck.core.problem import (
    Gradient,
    Problem,
    canonical,
    complex_from_pairs,
    is_differentiable,
    is_gradient,
    is_static,
    real_pairs,
)


def test_leaves_that_are_no_arrays_are_static():
    for leaf in (3, True, "mean", None, len, np.float32, jnp.float32, np.dtype("float32"), object()):
        assert is_static(leaf)
        assert not is_differentiable(leaf)
    for leaf in (3.0, 3j, np.float64(3), np.int64(3), np.ones(2), jnp.ones(2), torch.ones(2)):
        assert not is_static(leaf)


def test_real_and_complex_numbers_can_be_differentiated_and_integers_cannot():
    assert all(map(is_differentiable, (1.5, 1j, np.ones(2, np.float32), np.ones(2, np.complex64), torch.ones(2))))
    assert not any(map(is_differentiable, (np.arange(3), np.ones(2, bool), torch.arange(3))))


def test_complex_numbers_stay_complex():
    for given in (np.array([1 + 2j], np.complex64), torch.tensor([1 + 2j]), torch.tensor([1 - 2j]).conj(), 1 + 2j):
        assert canonical(given).dtype == np.complex128
        np.testing.assert_array_equal(canonical(given), 1 + 2j)
    assert canonical(torch.ones(1, dtype=torch.bfloat16)).dtype == np.float64
    with pytest.raises(TypeError, match="arrays must hold numbers or bools; got dtype <U1"):
        canonical(np.array(["a"]))


def test_complex_numbers_as_pairs_of_real_ones_and_back():
    z = np.array([[1 + 2j, 3 - 4j]])
    np.testing.assert_array_equal(real_pairs(z), [[[1, 2], [3, -4]]])
    np.testing.assert_array_equal(complex_from_pairs(real_pairs(z)), z)
    real = np.ones(3)
    assert real_pairs(real) is real


def test_what_a_perturbation_moves():
    z = (3 + 4j) * (1 + np.arange(200) / 256)  # no two are equal, since equal numbers would move equally
    problem = Problem(
        {"w": z}, (z, 5, "mode", np.arange(3)), ("z", "n", "m", "k"), ("y",), (z,), ("w",), tangents={"w": z}
    )
    moved = problem.perturbed(np.random.default_rng(0), 2.0**-20)
    assert moved.inputs[1:3] == (5, "mode")
    np.testing.assert_array_equal(moved.inputs[3], np.arange(3))
    for a in (moved.params["w"], moved.inputs[0], moved.cotangents[0], moved.tangents["w"]):
        for part, before in ((a.real, z.real), (a.imag, z.imag)):
            np.testing.assert_allclose(np.abs(part / before - 1), 2.0**-20, rtol=1e-9)
        directions = {(bool(x.real > b.real), bool(x.imag > b.imag)) for x, b in zip(a, z, strict=True)}
        assert len(directions) == 4


def test_hessian_vector_products_are_quantities_too():
    assert str(Gradient("x", order=2)) == "hessian-vector product x"
    assert is_gradient(Gradient("x", order=2))
    assert Gradient("x") != Gradient("x", order=2)
    one = np.ones(1)
    problem = Problem({}, (one,), ("x",), ("y",), (one,), ("x",))
    assert problem.gradients == (Gradient("x"),)
    second = Problem({}, (one,), ("x",), ("y",), (one,), ("x",), tangents={"x": one})
    assert second.gradients == (Gradient("x"), Gradient("x", 2))
    with pytest.raises(ValueError, match="output_names must differ"):
        Problem({}, (one,), ("x",), ("hessian-vector product x",), (one,), ("x",), tangents={"x": one})
