"""linen.LSTMCell instead of flax.linen's, in users' code: outputs, carries, gradients, dtypes, training."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from jax_lstm import convert, linen
from tests.support.conversion import drawn
from tests.support.flax_compat import (
    INITS,
    ROUNDING,
    B,
    D,
    H,
    assert_same,
    carry,
    gradient_of,
    rounding_ratios,
    stacked_draws,
    steps_of_training,
    widened,
    x_of,
)

F64 = {"features": H, "dtype": jnp.float64, "param_dtype": jnp.float64}
LENGTHS = jnp.array([6, 2, 4])


class UserCode(nn.Module):
    """Code that users write around a cell: lifted transformations, loops, and an unpacked carry."""

    cell: Any
    how: str

    @nn.compact
    def __call__(self, x):
        first = carry()
        if self.how == "remat":
            over = nn.scan(
                nn.remat(self.cell), variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
            )
            (c, h), y = over(**F64)(first, x)
        elif self.how == "loop":
            cell, (c, h), y = self.cell(**F64), first, []
            for t in range(x.shape[1]):
                (c, h), out = cell((c, h), x[:, t])
                y.append(out)
            y = jnp.stack(y, axis=1)
        else:  # the last state of an encoder is the first of a decoder
            (c, h), y = nn.RNN(self.cell(**F64), return_carry=True, name="encoder")(x, initial_carry=first)
            y = nn.RNN(self.cell(**F64), name="decoder")(y, initial_carry=(jnp.tanh(c), h))
        return nn.Dense(2, param_dtype=jnp.float64)(y), c, h


def rnn(**options):
    return lambda cell: nn.RNN(cell(**F64), **options)


def bidirectional(**options):
    return lambda cell: nn.Bidirectional(nn.RNN(cell(**F64)), nn.RNN(cell(**F64)), **options)


def user_code(how):
    return lambda cell: UserCode(cell, how)


SCANNED = {
    "variable_broadcast": "params",
    "split_rngs": {"params": False},
    "variable_axes": {},
    "variable_carry": False,
}
FORMS = {
    "seq_lengths, keep_order": (rnn(return_carry=True, reverse=True, keep_order=True), {"seq_lengths": LENGTHS}),
    "options of nn.scan": (rnn(return_carry=True, **SCANNED), {}),
    "Bidirectional": (bidirectional(return_carry=True), {"initial_carry": (carry(), carry(1)), "seq_lengths": LENGTHS}),
    "nn.remat by hand": (user_code("remat"), {}),
    "a loop by hand": (user_code("loop"), {}),
    "encoder and decoder": (user_code("decoder"), {}),
}


def theirs_and_ours(form, theirs=nn.LSTMCell, ours=linen.LSTMCell, x=None, **options):
    """Return Flax's module and ours, and the same weights by the names of each."""
    x = x_of() if x is None else x
    modules = form(theirs), form(ours)
    weights = drawn(jax.eval_shape(partial(modules[0].init, **options), jax.random.key(0), x)["params"])
    converted = convert.cells_from_flax(weights)
    like = jax.eval_shape(partial(modules[1].init, **options), jax.random.key(0), x)["params"]
    assert jax.tree.structure(like) == jax.tree.structure(converted)
    return modules, weights, converted


@pytest.mark.parametrize("name", FORMS)
def test_the_same_code_gives_the_same_numbers_and_gradients(name):
    form, options = FORMS[name]
    (theirs, ours), weights, converted = theirs_and_ours(form, **options)
    run = lambda module: lambda p, x: module.apply({"params": p}, x, **options)
    expected, gradient = gradient_of(run(theirs))(weights, x_of())
    got, our_gradient = gradient_of(run(ours))(converted, x_of())
    assert_same(got, expected)
    assert_same(our_gradient[1], gradient[1])
    assert_same(our_gradient[0], convert.cells_from_flax(gradient[0]))


@pytest.mark.parametrize("name", ["LSTMCell", "OptimizedLSTMCell"])
def test_parameters_have_the_names_that_flax_gives(name):
    """A compact module names parameters after the class. theirs_and_ours compares the structures of the trees."""
    form = user_code("loop")
    _, weights, converted = theirs_and_ours(form, getattr(nn, name), getattr(linen, name))
    assert set(converted) == {f"{name}_0", "Dense_0"}
    back = convert.cells_to_flax(converted, strict=True)
    jax.tree.map(np.testing.assert_array_equal, back, weights)


def test_cells_under_plain_transformations_of_jax():
    theirs, ours = nn.LSTMCell(**F64), linen.LSTMCell(**F64)
    weights = drawn(jax.eval_shape(theirs.init, jax.random.key(0), carry(), x_of()[:, 0])["params"])

    @partial(jax.jit, static_argnums=0)
    def scan(cell, params, start, x):
        def body(state, x):
            (c, h), y = cell.apply({"params": params}, state, x)
            return (c, h), (y, c)

        return jax.lax.scan(body, start, jnp.swapaxes(x, 0, 1))

    over_batch = jax.vmap(scan, in_axes=(None, None, 0, 0))
    x, start = jnp.stack([x_of(), x_of() + 1]), jax.tree.map(lambda a: jnp.stack([a, -a]), carry())
    assert_same(over_batch(ours, convert.cells_from_flax(weights), start, x), over_batch(theirs, weights, start, x))


def ratios_of(start, seed=0):
    """Return the `rounding_ratios` of float32 cells over 40 steps. ``start`` is the dtype of the first state."""
    kinds = {"features": H, "param_dtype": jnp.float32}
    of_draws = lambda cell: jax.vmap(lambda weights, first, x: loop(cell, weights, first, x))
    like = jax.eval_shape(nn.LSTMCell(**kinds).init, jax.random.key(0), carry(), x_of()[:, 0])["params"]
    draws = stacked_draws((like, carry(dtype=start), x_of(steps=40).astype(jnp.float32)), seed)
    weights, *rest = draws
    exact = of_draws(nn.LSTMCell(**F64))(*widened(draws))
    expected = of_draws(nn.LSTMCell(**kinds))(*draws)
    got = of_draws(linen.LSTMCell(**kinds))(jax.vmap(convert.cells_from_flax)(weights), *rest)
    return rounding_ratios(got, expected, exact)


@pytest.mark.isa
@pytest.mark.parametrize("start", [jnp.float64, jnp.float32])
def test_float32_cells_are_as_accurate_as_flaxs(start):
    """Flax multiplies float64 states by the weights in float64, and so do our cells."""
    assert max(ratios_of(start)) < ROUNDING


@pytest.mark.slow
def test_the_spread_of_rounding():
    """Check the figures in the docstring of rounding_ratios with twenty other groups of draws."""
    ratios = np.array([ratios_of(jnp.float32, seed) for seed in range(1, 21)])
    assert 0.8 < ratios.min() < ratios.max() < 1.25
    assert ratios.std(axis=0).max() < (ROUNDING - 1) / 6


@partial(jax.jit, static_argnums=0)
def loop(cell, params, start, x):
    step = lambda state, x: cell.apply({"params": params}, state, x)
    start = jax.eval_shape(step, start, x[:, 0])[0], start
    start = jax.tree.map(lambda like, a: a.astype(like.dtype), *start)
    return jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))


KINDS = (jnp.bfloat16, jnp.float32, jnp.float64)


@pytest.mark.parametrize("dtype", [None, *KINDS])
@pytest.mark.parametrize("param_dtype", KINDS)
def test_dtypes_agree_with_flax(dtype, param_dtype):
    zeros = nn.initializers.zeros
    options = {"dtype": dtype, "param_dtype": param_dtype, "kernel_init": zeros, "recurrent_kernel_init": zeros}
    for x_kind in KINDS:
        for c_kind, h_kind in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16), (jnp.float64, jnp.float64)):
            start = jnp.zeros((B, H), c_kind), jnp.zeros((B, H), h_kind)
            x = jnp.zeros((B, D), x_kind)
            out = [
                jax.eval_shape(cell(features=H, **options).init_with_output, jax.random.key(0), start, x)[0]
                for cell in (nn.LSTMCell, linen.LSTMCell)
            ]
            assert out[0] == out[1], (x_kind, c_kind, h_kind)
    start = [
        cell(features=H, **options).initialize_carry(jax.random.key(0), (B, D))
        for cell in (nn.LSTMCell, linen.LSTMCell)
    ]
    assert [a.dtype for a in start[0]] == [a.dtype for a in start[1]]


def test_every_gate_has_its_own_key():
    options = dict.fromkeys(INITS, jax.random.normal)
    cell = linen.LSTMCell(features=H, param_dtype=jnp.bfloat16, **options)
    params = cell.init(jax.random.key(0), carry(), x_of()[:, 0])["params"]
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        assert params[name].dtype == jnp.bfloat16
        gates = params[name].reshape(4, -1)
        assert len(np.unique(np.asarray(gates, np.float32), axis=0)) == 4


def test_initial_weights_have_flaxs_distribution_by_default():
    def drawn_by(hidden, inputs, **options):
        cell = linen.LSTMCell(features=hidden, **options)
        start = cell.initialize_carry(None, (B, inputs))
        return cell.init(jax.random.key(0), start, jnp.zeros((B, inputs)))["params"]

    big = drawn_by(64, 400)
    assert not big["bias_ih"].any()
    assert not big["bias_hh"].any()
    assert np.std(big["weight_ih"]) == pytest.approx(1 / np.sqrt(400), rel=0.02)  # 9 deviations, for 100,000 draws
    for gate in big["weight_hh"].reshape(4, 64, 64):
        np.testing.assert_allclose(gate @ gate.T, np.eye(64), atol=1e-5)  # sums of 64 products in float32
    assert 0.12 < np.abs(drawn_by(64, 400, style="torch")["weight_ih"]).max() <= 1 / 8
    np.testing.assert_array_equal(drawn_by(2, 4, forget_bias=1.0)["bias_ih"], [0, 0, 1, 1, 0, 0, 0, 0])


def test_our_cell_trains_as_flaxs_cell():
    """A second bias with a gradient would change the global norm, by which gradients are clipped, and Adam's steps."""
    (theirs, ours), weights, converted = theirs_and_ours(user_code("loop"))
    loss = lambda module: lambda p, x: jnp.mean(module.apply({"params": p}, x)[0] ** 2)
    expected, moments = steps_of_training(loss(theirs), weights)
    got, our_moments = steps_of_training(loss(ours), converted)
    assert_same(got, convert.cells_from_flax(expected))
    assert_same(our_moments, convert.cells_from_flax(moments))
    assert_same(convert.cells_to_flax(got, strict=True), expected)
    assert np.abs(got["LSTMCell_0"]["bias_ih"] - converted["LSTMCell_0"]["bias_ih"]).min() > 1e-3


def test_a_carry_can_be_stored():
    cell = linen.LSTMCell(**F64)
    state = carry()
    back = serialization.from_bytes(cell.initialize_carry(None, (B, D)), serialization.to_bytes(state))
    assert type(back) is tuple
    jax.tree.map(np.testing.assert_array_equal, back, state)
