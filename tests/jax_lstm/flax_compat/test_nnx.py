"""nnx.LSTMCell instead of flax.nnx's, in users' code: outputs, carries, gradients, dtypes, training."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax

from jax_lstm import convert, nnx
from tests.support.conversion import drawn
from tests.support.flax_compat import (
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

LENGTHS = jnp.array([6, 2, 4])
F64 = {"in_features": D, "hidden_features": H, "dtype": jnp.float64, "param_dtype": jnp.float64}
CELLS = {
    "LSTMCell": (flax.LSTMCell, nnx.LSTMCell),
    "OptimizedLSTMCell": (flax.OptimizedLSTMCell, nnx.OptimizedLSTMCell),
}


class UserCode(flax.Module):
    """Code that users write around a cell: transformations of Flax and JAX, loops, and an unpacked carry."""

    def __init__(self, cell, how, rngs):
        self.cell, self.how = cell(**F64, rngs=rngs), how
        self.head = flax.Linear(H, 2, param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, x):
        y, (c, h) = getattr(self, self.how)(x, carry())
        return self.head(y), jnp.tanh(c), h

    def loop(self, x, state):
        (c, h), y = state, []
        for t in range(x.shape[1]):
            (c, h), out = self.cell((c, h), x[:, t])
            y.append(out)
        return jnp.stack(y, axis=1), (c, h)

    def scan(self, x, state):
        @flax.scan(in_axes=(None, flax.Carry, 1), out_axes=(flax.Carry, 1))
        def over(cell, state, x):
            (c, h), y = cell(state, x)
            return (c, h), y

        state, y = over(self.cell, state, x)
        return y, state

    def lax_scan(self, x, state):
        graph, weights = flax.split(self.cell)
        state, y = jax.lax.scan(lambda s, x: flax.merge(graph, weights)(s, x), state, jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(y, 0, 1), state

    def vmap(self, x, state):
        @flax.vmap(in_axes=(None, 0, 0))
        def single(cell, state, x):
            (c, h), y = state, []
            for t in range(x.shape[0]):
                (c, h), out = cell((c, h), x[t])
                y.append(out)
            return jnp.stack(y), (c, h)

        return single(self.cell, state, x)


def rnn(**options):
    return lambda cell: flax.RNN(cell(**F64, rngs=flax.Rngs(0)), **options)


def bidirectional(**options):
    return lambda cell: flax.Bidirectional(rnn()(cell), rnn()(cell), **options)


def user_code(how):
    return lambda cell: UserCode(cell, how, flax.Rngs(0))


FORMS = {
    "seq_lengths, keep_order": (rnn(return_carry=True, reverse=True, keep_order=True), {"seq_lengths": LENGTHS}),
    "time_major": (rnn(return_carry=True, time_major=True), {}),
    "unroll": (rnn(return_carry=True, unroll=3), {}),
    "rngs": (rnn(return_carry=True, rngs=flax.Rngs(3), broadcast_rngs="dropout"), {}),
    "Bidirectional": (bidirectional(return_carry=True), {"initial_carry": (carry(), carry(1)), "seq_lengths": LENGTHS}),
    "a loop by hand": (user_code("loop"), {}),
    "nnx.scan by hand": (user_code("scan"), {}),
    "jax.lax.scan by hand": (user_code("lax_scan"), {}),
    "nnx.vmap by hand": (user_code("vmap"), {}),
}


def theirs_and_ours(form, cells=CELLS["LSTMCell"]):
    """Return Flax's module and ours as functions of weights and x, and the same weights by the names of each."""
    parts = [flax.split(form(cell), flax.Param, ...) for cell in cells]
    weights = drawn(flax.to_pure_dict(parts[0][1]))
    converted = convert.cells_from_nnx(weights)
    assert jax.tree.structure(flax.to_pure_dict(parts[1][1])) == jax.tree.structure(converted)

    def module(number):
        def run(params, x, **options):
            graph, *states = parts[number]
            state, rest = jax.tree.map(lambda a: a, states)  # copies, since a module counts its keys in place
            flax.replace_by_pure_dict(state, params)
            return flax.merge(graph, state, rest)(x, **options)

        return run

    return (module(0), module(1)), weights, converted


@pytest.mark.parametrize("name", FORMS)
def test_the_same_code_gives_the_same_numbers_and_gradients(name):
    form, options = FORMS[name]
    check(form, CELLS["LSTMCell"], **options)


def test_our_cell_in_place_of_the_optimized_cell():
    check(rnn(return_carry=True), CELLS["OptimizedLSTMCell"], initial_carry=carry())


def check(form, cells, **options):
    (theirs, ours), weights, converted = theirs_and_ours(form, cells)
    expected, gradient = gradient_of(partial(theirs, **options))(weights, x_of())
    got, our_gradient = gradient_of(partial(ours, **options))(converted, x_of())
    assert_same(got, expected)
    assert_same(our_gradient[1], gradient[1])
    assert_same(our_gradient[0], convert.cells_from_nnx(gradient[0]))
    back = convert.cells_to_nnx(converted, cells[0].__name__, strict=True)
    jax.tree.map(np.testing.assert_array_equal, back, weights)


def test_cells_under_nnx_jit_and_grad():
    """Flax's transformations run on the module itself, whose weights nnx.update sets."""
    theirs, ours = (user_code("loop")(cell) for cell in CELLS["LSTMCell"])
    weights = drawn(flax.to_pure_dict(flax.state(theirs, flax.Param)))
    flax.update(theirs, weights)
    flax.update(ours, convert.cells_from_nnx(flax.state(theirs, flax.Param)))
    gradient = flax.jit(flax.grad(lambda m, x: jnp.sum(m(x)[0] ** 2)))
    expected, got = (flax.to_pure_dict(gradient(m, x_of())) for m in (theirs, ours))
    assert_same(got, convert.cells_from_nnx(expected))


@pytest.mark.isa
def test_float32_cells_are_as_accurate_as_flaxs():
    (single, ours), weights, _ = theirs_and_ours(rnn_of(jnp.float32))
    (double, _), _, _ = theirs_and_ours(rnn_of(jnp.float64))
    like = jax.tree.map(lambda a: a.astype(jnp.float32), (weights, x_of(steps=40)))
    weights, x = stacked_draws(like)
    run = lambda module: jax.jit(jax.vmap(module))
    exact, expected = run(double)(*widened((weights, x))), run(single)(weights, x)
    got = run(ours)(jax.vmap(convert.cells_from_nnx)(weights), x)
    assert max(rounding_ratios(got, expected, exact)) < ROUNDING


def rnn_of(kind):
    make = lambda cell: cell(in_features=D, hidden_features=H, param_dtype=kind, rngs=flax.Rngs(0))
    return lambda cell: flax.RNN(make(cell), return_carry=True)


KINDS = (jnp.bfloat16, jnp.float32, jnp.float64)


@pytest.mark.parametrize("dtype", [None, *KINDS])
def test_dtypes_agree_with_flax(dtype):
    for param_dtype in KINDS:
        options = F64 | {"dtype": dtype, "param_dtype": param_dtype}
        cells = [cell(**options, rngs=flax.Rngs(0)) for cell in CELLS["LSTMCell"]]
        for x_kind, c_kind, h_kind in ((KINDS[0], *KINDS[:2]), (*KINDS[:2], KINDS[0]), (KINDS[2], *KINDS[1:])):
            state = jnp.zeros((B, H), c_kind), jnp.zeros((B, H), h_kind)
            theirs, ours = (jax.eval_shape(cell, state, jnp.zeros((B, D), x_kind)) for cell in cells)
            assert ours == theirs, (param_dtype, x_kind, c_kind, h_kind)
        theirs, ours = (cell.initialize_carry((B, D), flax.Rngs(0)) for cell in cells)
        assert [a.dtype for a in ours] == [a.dtype for a in theirs]


def test_carry_init_gives_the_bits_of_flax():
    init = flax.initializers.normal(1.0)
    theirs, ours = (cell(**F64, rngs=flax.Rngs(0)) for cell in CELLS["LSTMCell"])
    for make in (lambda: flax.Rngs(5), lambda: flax.Rngs(5).carry):
        expected, got = (cell.initialize_carry((B, D), make(), carry_init=init) for cell in (theirs, ours))
        jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert not np.array_equal(*got)
    stored = nnx.LSTMCell(**F64, carry_init=init, rngs=flax.Rngs(0)).initialize_carry((B, D), flax.Rngs(5))
    jax.tree.map(np.testing.assert_array_equal, stored, got)
    assert [a.dtype for a in ours.initialize_carry((B, D))] == [jnp.float64] * 2


def test_our_cell_trains_as_flaxs_cell():
    """A second bias with a gradient would change the global norm, by which gradients are clipped, and Adam's steps."""
    (theirs, ours), weights, converted = theirs_and_ours(user_code("loop"))
    loss = lambda run: lambda p, x: jnp.mean(run(p, x)[0] ** 2)
    expected, moments = steps_of_training(loss(theirs), weights)
    got, our_moments = steps_of_training(loss(ours), converted)
    assert_same(got, convert.cells_from_nnx(expected))
    assert_same(our_moments, convert.cells_from_nnx(moments))
    assert np.abs(got["cell"]["bias_ih"] - converted["cell"]["bias_ih"]).min() > 1e-3


def test_a_cell_has_only_weights_and_flaxs_attributes():
    cell = nnx.LSTMCell(**F64, carry_init=flax.initializers.normal(1.0), rngs=flax.Rngs(0))
    assert (cell.in_features, cell.hidden_features) == (D, H)
    _, weights, rest = flax.split(cell, flax.Param, ...)
    assert set(flax.to_pure_dict(weights)) == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
    assert not jax.tree.leaves(rest)
