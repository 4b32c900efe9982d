"""The properties that Flax's own tests check for its recurrent layers, checked for our cells made with Flax's names.

Flax's tests also read Flax's parameter names, and use activations other than sigmoid and tanh. Our cells do not have
these, see docs/migration.md.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jax_lstm import LSTMState, convert, linen, nnx
from tests.support.arrays import normal

B, T, D, H = 3, 4, 5, 6
X = normal((B, T, D), np.float32)
COUNTS = np.arange(B * T * D).reshape(B, T, D) % 7 - 3  # int64, since x64 is on
KEY = jax.random.key(1)
ATOL = 60 * 2.0**-24  # about 60 roundings in float32, for numbers of about 1
CELLS = ("LSTMCell", "OptimizedLSTMCell")


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", CELLS)
def test_a_size_by_position_means_flaxs_features(name):
    cell = getattr(linen, name)(H)
    assert cell.features == H
    carry = cell.initialize_carry(KEY, (B, D))
    assert_same(carry, getattr(nn, name)(H).initialize_carry(KEY, (B, D)))
    (carry, y), variables = cell.init_with_output(KEY, carry, X[:, 0])
    c, h = carry
    assert c.shape == h.shape == y.shape == (B, H)
    state = linen.LSTMCell(hidden_size=H).initialize_carry(KEY, (B, D))
    assert isinstance(state, LSTMState)
    after, out = linen.LSTMCell(hidden_size=H).apply(variables, state, X[:, 0])
    np.testing.assert_array_equal(after.c, c)
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("name", CELLS)
def test_sizes_by_position_mean_flaxs_features_in_nnx(name):
    cell = getattr(nnx, name)(D, H, rngs=flax_nnx.Rngs(0))
    assert (cell.in_features, cell.hidden_features) == (D, H)
    assert_same(cell.initialize_carry((B, D), flax_nnx.Rngs(0)), (jnp.zeros((B, H), jnp.float32),) * 2)
    c, h = cell.initialize_carry((B, D), flax_nnx.Rngs(0), carry_init=nn.initializers.ones)
    np.testing.assert_array_equal((c, h), np.ones((2, B, H)))
    ours = nnx.LSTMCell(input_size=D, hidden_size=H, rngs=flax_nnx.Rngs(0))
    assert isinstance(ours.initialize_carry((B, D)), LSTMState)


BOTH_SIZES = {
    "linen": lambda: linen.LSTMCell(H, hidden_size=H),
    "nnx, two of each": lambda: nnx.LSTMCell(D, H, input_size=D, hidden_size=H, rngs=flax_nnx.Rngs(0)),
    "nnx, one of each": lambda: nnx.LSTMCell(D, hidden_size=H, rngs=flax_nnx.Rngs(0)),
}


@pytest.mark.parametrize("name", BOTH_SIZES)
def test_a_size_by_position_beside_one_by_torchs_name_is_refused(name):
    with pytest.raises(TypeError, match=r"A size by position is Flax's\. Got \{.*'hidden_size': 6.*features"):
        BOTH_SIZES[name]()


OPTIONS = {
    "plain": {},
    "unrolled": {"unroll": 2},
    "time-major": {"time_major": True},
    "reversed": {"reverse": True},
    "reversed, in order": {"reverse": True, "keep_order": True},
}


@pytest.mark.parametrize("batch", [(B,), (B, 2)], ids=["one batch axis", "two"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_layer_agrees_with_a_loop_of_its_cell(name, batch):
    options = OPTIONS[name]
    x = jnp.broadcast_to(X.reshape(B, *(1,) * (len(batch) - 1), T, D), (*batch, T, D))
    rnn = nn.RNN(linen.LSTMCell(H), return_carry=True, **options)
    x = jnp.moveaxis(x, -2, 0) if "time_major" in options else x
    (carry, y), variables = rnn.init_with_output(KEY, x)
    x, y = (jnp.moveaxis(a, 0, -2) if "time_major" in options else a for a in (x, y))
    assert y.shape == (*batch, T, H)
    weights = {"params": variables["params"]["cell"]}
    by_hand, outputs = rnn.cell.initialize_carry(KEY, x[..., 0, :].shape), []
    for t in reversed(range(T)) if "reverse" in options else range(T):
        by_hand, out = rnn.cell.apply(weights, by_hand, x[..., t, :])
        outputs.append(out)
    assert_same(carry, by_hand)
    assert all(np.all(np.any(leaf != 0, axis=-1)) for leaf in jax.tree.leaves(carry))
    assert_same(y, jnp.stack(outputs[::-1] if "keep_order" in options else outputs, axis=-2))


def test_each_row_agrees_with_the_layer_on_that_row():
    rnn = nn.RNN(linen.LSTMCell(H), return_carry=True)
    (carry, y), variables = rnn.init_with_output(KEY, X)
    for row in range(B):
        rows = slice(row, row + 1)
        assert_same(rnn.apply(variables, X[rows]), (jax.tree.map(lambda a, rows=rows: a[rows], carry), y[rows]))


def test_the_carry_of_a_row_is_that_of_its_last_step():
    lengths = jnp.array([1, 4, 2])
    rnn = nn.RNN(linen.LSTMCell(H), return_carry=True)
    (carry, y), variables = rnn.init_with_output(KEY, X, seq_lengths=lengths)
    for row, length in enumerate(lengths):
        last, outputs = rnn.apply(variables, X[row : row + 1, : int(length)])
        assert_same(jax.tree.map(lambda a, row=row: a[row : row + 1], carry), last)
        assert_same(y[row : row + 1, : int(length)], outputs)


def test_lifted_and_plain_scans_agree_with_the_layer():
    rnn = nn.RNN(linen.LSTMCell(H), return_carry=True)
    expected, variables = rnn.init_with_output(KEY, X)
    weights = {"params": variables["params"]["cell"]}
    lifted = nn.scan(linen.LSTMCell, in_axes=1, out_axes=1, variable_broadcast="params", split_rngs={"params": False})(
        H
    )
    start = lifted.initialize_carry(KEY, (B, D))
    assert_same(lifted.apply(weights, start, X), expected)
    cell = linen.LSTMCell(H)
    carry, y = jax.lax.scan(lambda s, x: cell.apply(weights, s, x), start, jnp.swapaxes(X, 0, 1))
    assert_same((carry, jnp.swapaxes(y, 0, 1)), expected)
    assert jax.tree.structure(lifted.init(KEY, start, X)) == jax.tree.structure(weights)


BIDIRECTIONAL = {
    "concatenated": ({}, (B, T, 2 * H)),
    "summed": ({"merge_fn": lambda a, b: a + b}, (B, T, H)),
    "with carries": ({"return_carry": True}, (B, T, 2 * H)),
}


@pytest.mark.parametrize("shared", [False, True], ids=["two cells", "one cell"])
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_two_directions(name, shared):
    options, shape = BIDIRECTIONAL[name]
    cells = [linen.LSTMCell(H)] * 2 if shared else [linen.LSTMCell(H), linen.LSTMCell(H)]
    out, variables = nn.Bidirectional(*map(nn.RNN, cells), **options).init_with_output(KEY, X)
    carries, y = out if "return_carry" in options else ((), out)
    assert y.shape == shape
    assert jax.tree.map(jnp.shape, carries) == (((B, H), (B, H)),) * 2 * ("return_carry" in options)
    assert len(variables["params"]) == (1 if shared else 2)


INTEGERS = {
    "int64": jnp.asarray(COUNTS),
    "int8": jnp.asarray(COUNTS.astype(np.int8)),
    "bool": jnp.asarray(COUNTS > 0),
    "NumPy": COUNTS,
}


@pytest.mark.parametrize("param_dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", INTEGERS)
def test_integer_inputs_are_promoted_as_flax_promotes_them(name, param_dtype):
    x = INTEGERS[name]
    for dtype in (None, jnp.promote_types(param_dtype, jnp.float32)):
        if dtype is not None and param_dtype == jnp.bfloat16:
            continue  # Flax's carry has param_dtype, which is then too narrow
        normal = nn.initializers.normal()  # Flax's orthogonal draws no bfloat16 on CPU
        options = {"param_dtype": param_dtype, "dtype": dtype, "recurrent_kernel_init": normal}
        theirs, ours = (nn.RNN(lib.OptimizedLSTMCell(H, **options), return_carry=True) for lib in (nn, linen))
        variables = theirs.init(KEY, x)
        our_params = {"params": {"cell": convert.cell(convert.from_flax(variables["params"]["cell"]))}}
        expected, got = theirs.apply(variables, x), ours.apply(our_params, x)
        assert jax.tree.map(lambda a: a.dtype, got) == jax.tree.map(lambda a: a.dtype, expected)
        if param_dtype != jnp.bfloat16:  # this test is not about its rounding
            assert_same(got, expected)


def test_integer_inputs_in_nnx():
    theirs, ours = flax_nnx.LSTMCell(D, H, rngs=flax_nnx.Rngs(0)), nnx.LSTMCell(D, H, rngs=flax_nnx.Rngs(0))
    params = convert.cell(convert.from_nnx(flax_nnx.state(theirs, flax_nnx.Param)))
    flax_nnx.update(ours, params)
    lengths = jnp.array([3, 1, 4])
    layers = (flax_nnx.RNN(cell, return_carry=True, reverse=True) for cell in (theirs, ours))
    expected, got = (
        layer(COUNTS, initial_carry=layer.cell.initialize_carry((B, D), flax_nnx.Rngs(0)), seq_lengths=lengths)
        for layer in layers
    )
    assert_same(got, expected)


def test_a_cell_made_with_torchs_names_refuses_integers():
    """torch's cell refuses them too."""
    for make in (
        lambda: nn.RNN(linen.LSTMCell(hidden_size=H)).init(KEY, COUNTS),
        lambda: flax_nnx.RNN(nnx.LSTMCell(input_size=D, hidden_size=H, rngs=flax_nnx.Rngs(0)))(COUNTS),
    ):
        with pytest.raises(TypeError, match="x must be floating point; got dtype int64"):
            make()


def test_float16_in_every_array():
    cell = nnx.LSTMCell(D, H, dtype=jnp.float16, param_dtype=jnp.float16, rngs=flax_nnx.Rngs(8))
    carry = cell.initialize_carry((B, D), flax_nnx.Rngs(8))
    carry, y = flax_nnx.RNN(cell, return_carry=True)(X.astype(jnp.float16), initial_carry=carry)
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, y))} == {jnp.dtype(jnp.float16)}


def test_a_subclass_with_recurrent_dropout():
    """A subclass that overrides the call, and passes Flax's names on to our cell."""

    class Dropped(nnx.OptimizedLSTMCell):
        def __init__(self, *, rate, rngs, **options):
            super().__init__(**options, rngs=rngs)
            self.recurrent = flax_nnx.Dropout(rate, rng_collection="recurrent", rngs=rngs)

        def __call__(self, carry, x):
            carry, y = super().__call__(carry, x)
            return jax.tree.map(self.recurrent, carry), y

    cell = Dropped(in_features=D, hidden_features=H, rate=0.5, rngs=flax_nnx.Rngs(0, recurrent=1))
    (c, h), y = flax_nnx.RNN(cell, return_carry=True, broadcast_rngs="recurrent")(X)
    assert y.shape == (B, T, H)
    for leaf in (c, h):
        assert 0 < jnp.mean(leaf == 0) < 1
