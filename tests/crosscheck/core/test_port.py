"""A port runs in any dtype, and its intermediate values can be measured. These tests do not need torch."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosscheck.core.jax_shapes import forget_arrays
from crosscheck.core.port import Port
from crosscheck.core.problem import Gradient, Problem

RNG = np.random.default_rng(0)


def problem(x, *others, cotangent, wrt=("w", "x"), **options):
    names = ("x", *(f"other {n}" for n in range(len(others))))
    return Problem({"w": RNG.normal(size=4)}, (x, *others), names, ("y",), (cotangent,), wrt, **options)


def test_outputs_and_gradients_in_each_dtype():
    one = problem(RNG.normal(size=(3, 4)), cotangent=RNG.normal(size=(3, 4)))
    port = Port(lambda p, x: p["w"] * jnp.sin(x))
    exact = port(one, "float64")
    np.testing.assert_allclose(exact["y"], one.params["w"] * np.sin(one.inputs[0]), rtol=1e-14)
    np.testing.assert_allclose(
        exact[Gradient("x")], one.cotangents[0] * one.params["w"] * np.cos(one.inputs[0]), rtol=1e-14
    )
    for dtype, size in (("float32", 1e-6), ("bfloat16", 0.05), ("float16", 1e-2)):
        narrow = port(one, dtype)
        assert {str(a.dtype) for a in narrow.values()} == {dtype}
        for name, a in narrow.items():
            assert np.max(np.abs(a.astype(np.float64) - exact[name])) < size


def test_hessian_vector_products():
    tangents = {"w": RNG.normal(size=4), "x": RNG.normal(size=(3, 4))}
    one = problem(RNG.normal(size=(3, 4)), cotangent=RNG.normal(size=(3, 4)), tangents=tangents)
    result = Port(lambda p, x: p["w"] * jnp.sin(x))(one, "float64")
    c, w, x = one.cotangents[0], one.params["w"], one.inputs[0]
    of_w = (c * np.cos(x) * tangents["x"]).sum(0)
    of_x = c * (np.cos(x) * tangents["w"] - w * np.sin(x) * tangents["x"])
    np.testing.assert_allclose(result[Gradient("w", 2)], of_w, rtol=1e-12)
    np.testing.assert_allclose(result[Gradient("x", 2)], of_x, rtol=1e-12)


def test_a_loop_with_a_float32_carry_runs_in_float64():
    class Cell(nn.RNNCellBase):
        @nn.compact
        def __call__(self, carry, x):
            carry = jnp.tanh(carry + x)
            return carry, carry

        def initialize_carry(self, rng, input_shape):
            return jnp.zeros(input_shape, jnp.float32)

        @property
        def num_feature_axes(self):
            return 1

    port = Port(lambda p, x: p["w"] * nn.RNN(Cell()).apply({}, x))
    one = problem(RNG.normal(size=(2, 5, 4)), cotangent=RNG.normal(size=(2, 5, 4)))
    result = port(one, "float64")
    assert port.carry_is_fixed
    assert port.loops(one)
    h, rows = np.zeros((2, 4)), []
    for t in range(5):
        h = np.tanh(h + one.inputs[0][:, t])
        rows.append(h)
    np.testing.assert_allclose(result["y"], one.params["w"] * np.stack(rows, 1), rtol=1e-13)


def test_integers_are_traced_unless_the_function_needs_their_values():
    tokens = np.array([2, 0, 1])
    x = RNG.normal(size=(3, 4))
    traced = Port(lambda p, x, t: (p["w"] * x)[t.at[0].set(1)])
    one = problem(x, tokens, cotangent=np.ones((3, 4)))
    np.testing.assert_allclose(traced(one, "float64")["y"], (one.params["w"] * x)[[1, 0, 1]], rtol=1e-14)
    needs = Port(lambda p, x, t: (p["w"] * x)[: int(t[0])])
    two = problem(x, tokens, cotangent=np.ones((2, 4)))
    for dtype in ("float64", "float32"):
        np.testing.assert_allclose(needs(two, dtype)["y"], (two.params["w"] * x)[:2], rtol=1e-6)


def test_a_function_may_close_over_float64_arrays_in_both_dtypes():
    table = np.linspace(0, 1, 4)
    port = Port(jax.jit(lambda p, x: p["w"] * x + table))
    one = problem(RNG.normal(size=(3, 4)), cotangent=np.ones((3, 4)))
    for dtype, rtol in (("float64", 1e-14), ("float32", 1e-6)):
        np.testing.assert_allclose(port(one, dtype)["y"], one.params["w"] * one.inputs[0] + table, rtol=rtol)


@pytest.mark.parametrize("size", [0.0, 2.0**-40])
def test_noise_moves_results_by_about_its_size(size):
    one = problem(RNG.normal(size=(3, 4)), cotangent=np.ones((3, 4)))
    port = Port(lambda p, x: jnp.exp(jnp.sin(p["w"] * x)) / 3)
    exact, noisy = port(one, "float64"), port.noisy(one, size, 7)
    for name, a in exact.items():
        off = np.max(np.abs(noisy[name] - a)) / np.max(np.abs(a))
        assert off <= 1e-15 if size == 0 else size / 10 < off < 10 * size


def test_noise_at_one_place_moves_less_than_everywhere():
    one = problem(RNG.normal(size=(3, 4)), cotangent=np.ones((3, 4)))
    port = Port(lambda p, x: jnp.exp(jnp.sin(p["w"] * x)) / 3)
    exact = port.noisy(one, 0.0, 7)
    moved = {place: port.noisy(one, 2.0**-40, 7, place)["y"] for place in port.places(one)}
    assert {operation for operation, _ in moved} >= {"exp", "sin", "div"}
    changed = {place[0]: bool(np.any(a != exact["y"])) for place, a in moved.items()}
    assert changed["exp"]
    assert changed["sin"]


def test_a_narrow_type_inside_is_lifted_and_named():
    one = problem(RNG.normal(size=(3, 4)), cotangent=np.ones((3, 4)))
    port = Port(lambda p, x: p["w"] * jnp.sin(x.astype(jnp.float32)).astype(x.dtype))
    np.testing.assert_allclose(port(one, "float64")["y"], one.params["w"] * np.sin(one.inputs[0]), rtol=1e-14)
    assert [place.dtype for place in port.narrow] == ["float32"]
    assert "test_port.py:" in str(port.narrow[0])


@pytest.mark.parametrize("keep", ["function", "jitted", "none"])
def test_a_function_that_ran_in_float32_before(keep):
    """JAX keeps the NumPy arrays that a program closes over in float32, as long as the user's program exists."""
    scale, order = np.array([0.1, 0.2, 0.3, 0.7]), np.array([2, 0, 1, 3])
    fn = lambda p, x: (p["w"] * x * scale)[:, order]
    one = problem(RNG.normal(size=(3, 4)), cotangent=RNG.normal(size=(3, 4)))
    users = jax.jit(fn)
    port = users if keep == "jitted" else fn
    with jax.enable_x64(False):
        if keep != "none":
            users({"w": one.params["w"].astype(np.float32)}, one.inputs[0].astype(np.float32))
        forget_arrays(port, one)
    result = Port(port)(one, "float64")
    np.testing.assert_allclose(result["y"], (one.params["w"] * one.inputs[0] * scale)[:, order], rtol=1e-14)
    assert Port(port)(one, "float32")["y"].dtype == np.float32


def test_a_function_that_closes_over_indices_and_a_float32_table():
    order, table = np.array([2, 0, 1, 3]), RNG.normal(size=4).astype(np.float32)
    one = problem(RNG.normal(size=(3, 4)), cotangent=RNG.normal(size=(3, 4)))
    port = Port(lambda p, x: (p["w"] * x)[:, order] * table)
    exact = (one.params["w"] * one.inputs[0])[:, order] * table
    np.testing.assert_allclose(port(one, "float64")["y"], exact, rtol=1e-14)
    np.testing.assert_allclose(port(one, "float32")["y"], exact, rtol=1e-6)


def test_a_function_without_arrays_keeps_the_caches(monkeypatch):
    monkeypatch.setattr(jax, "clear_caches", lambda: pytest.fail("it closes over no array"))
    one = problem(RNG.normal(size=(3, 4)), cotangent=RNG.normal(size=(3, 4)))
    forget_arrays(lambda p, x: p["w"] * x * 0.5, one)
    forget_arrays(lambda p, x: 1 / 0, one)
