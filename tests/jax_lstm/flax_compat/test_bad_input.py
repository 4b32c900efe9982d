"""Cells made with Flax's names: wrong arguments, and carries whose order is unknown."""

from __future__ import annotations

from collections import namedtuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax

from jax_lstm import LSTMState, linen, nnx
from tests.support.flax_compat import B, D, H, carry, x_of

Named = namedtuple("Named", ("hidden", "cell"))  # Haiku's order


def linen_cell(**options):
    """Return a linen cell with its weights, as a function of (carry, x)."""
    cell = linen.LSTMCell(features=H, param_dtype=jnp.float64, **options)
    params = cell.init(jax.random.key(0), carry(), x_of()[:, 0])
    return lambda state, x: cell.apply(params, state, x)


def nnx_cell(**options):
    return nnx.LSTMCell(in_features=D, hidden_features=H, param_dtype=jnp.float64, rngs=flax.Rngs(0), **options)


@pytest.mark.parametrize("make", [linen_cell, nnx_cell])
def test_a_named_tuple_is_refused_in_place_of_flaxs_pair(make):
    """Haiku's (hidden, cell) has the other order, and both arrays have one shape, so nothing would notice the swap."""
    cell = make()
    (c, h), y = cell(carry(), x_of()[:, 0])
    (c_of_list, _), _ = cell(list(carry()), x_of()[:, 0])
    np.testing.assert_array_equal(y, h)
    np.testing.assert_array_equal(c_of_list, c)
    swapped, _ = cell(carry()[::-1], x_of()[:, 0])
    assert np.abs(swapped[0] - c).max() > 0.1
    with pytest.raises(TypeError, match=r"carry must be the tuple \(c, h\), .*; got Named"):
        cell(Named(*carry()[::-1]), x_of()[:, 0])


@pytest.mark.parametrize("make", [linen_cell, nnx_cell])
def test_inputs_that_are_not_real_and_states_of_other_shapes_are_refused(make):
    with pytest.raises(TypeError, match=r"x must be floating point; got dtype complex128\. .*real numbers only"):
        make()(carry(), jnp.ones((B, D), complex))
    with pytest.raises(TypeError, match=r"x must be .* array.*; got list"):
        make()(carry(), [[0.0] * D] * B)
    with pytest.raises(ValueError, match=r"state.h must be .* = \(3, 5\); got shape \(5,\)"):
        make()((carry()[0], jnp.zeros(H)), x_of()[:, 0])


@pytest.mark.parametrize("wrong", [jnp.zeros((B, H), int), [[0.0] * H] * B], ids=["integers", "a list"])
def test_a_state_that_is_not_floating_point_is_refused(wrong):
    h, x = jnp.zeros((B, H)), x_of()[:, 0]
    linen_module = linen.LSTMCell(hidden_size=H)
    params = linen_module.init(jax.random.key(0), LSTMState(h=h, c=h), x)
    nnx_module = nnx.LSTMCell(input_size=D, hidden_size=H, rngs=flax.Rngs(0))
    for cell in (lambda state, x: linen_module.apply(params, state, x), nnx_module):
        for name, state in {"h": LSTMState(h=wrong, c=h), "c": LSTMState(h=h, c=wrong)}.items():
            with pytest.raises(TypeError, match=rf"state\.{name} must be .*floating.point.*; got (dtype int64|list)"):
                cell(state, x)


def test_a_state_cannot_be_indexed():
    state = LSTMState(h=carry()[1], c=carry()[0])
    for take in (lambda: state[0], lambda: state["h"], lambda: list(state)):
        with pytest.raises(TypeError, match=r"write state\.h and state\.c\. .*LSTMCell\(features=\.\.\.\)"):
            take()


ONES = nn.initializers.ones
BAD = {
    "a number": ({"kernel_init": 0.1}, TypeError, "kernel_init must be a function; got float"),
    "two forget biases": ({"bias_init": ONES, "forget_bias": 1.0}, ValueError, "bias_init .* beside forget_bias"),
    "no bias": ({"bias_init": ONES, "bias": False}, ValueError, "bias_init .* beside bias=False"),
    "a function as bias": ({"bias": nn.sigmoid}, TypeError, "bias must be True or False; got "),
    "another shape": (
        {"kernel_init": lambda key, shape, dtype: jnp.zeros(shape[::-1])},
        ValueError,
        r"kernel_init must be a function \(key, shape, dtype\) -> .*, \(4, 5\); got shape \(5, 4\)",
    ),
    "a bias of another shape": (
        {"bias_init": lambda *_: jnp.zeros(())},
        ValueError,
        r"bias_init must .*\(5,\); got shape \(\)",
    ),
    "a box that is none of Flax's": (
        {"recurrent_kernel_init": lambda key, shape, dtype: (jnp.zeros(shape, dtype), ("a", "b"))},
        ValueError,
        "recurrent_kernel_init must be .*; got tuple.*with_partitioning of flax.linen in a linen module, of flax.nnx",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("make", [linen_cell, nnx_cell])
def test_wrong_arguments_are_refused(make, name):
    options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make(**options)


def test_bias_init_draws_the_whole_bias_with_the_style_torch():
    cell = nnx_cell(style="torch", bias_init=ONES)
    np.testing.assert_array_equal(cell.bias_ih[...], np.ones(4 * H))
    np.testing.assert_array_equal(cell.bias_hh[...], np.zeros(4 * H))


def test_a_drawn_carry_needs_a_key():
    cell = linen.LSTMCell(features=H, carry_init=nn.initializers.normal(1.0))
    with pytest.raises(ValueError, match="rng must be given if carry_init is, to draw the carry; got None"):
        cell.initialize_carry(None, (B, D))
