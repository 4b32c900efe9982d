"""flax.linen and flax.nnx: the names of their cells are read and written."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core, linen, nnx

import jax_lstm
from jax_lstm import LSTMState, convert
from jax_lstm._src.network import Network
from tests.support.conversion import assert_same_bits, drawn, one_bias, our_params
from tests.support.libraries import NETWORKS, B, D, H, T

CELLS = ("LSTMCell", "OptimizedLSTMCell")
KEY = jax.random.key(0)


def x_of(width=D):
    return jnp.asarray(np.random.default_rng(3).normal(size=(B, T, width)))


def assert_ours(params, y, x):
    """Run jax_lstm from zero states, since these modules take no others."""
    np.testing.assert_allclose(jax.jit(jax_lstm.lstm)(params, x)[0], y, rtol=0, atol=1e-12)


def linen_cell(cell="OptimizedLSTMCell"):
    return getattr(linen, cell)(H, param_dtype=jnp.float64)


def nnx_cell(width, cell="OptimizedLSTMCell"):
    return getattr(nnx, cell)(width, H, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))


def nnx_rnn(width=D):
    return nnx.RNN(nnx_cell(width), rngs=nnx.Rngs(1))


class Compact(linen.Module):
    """Cells that a compact module makes belong to it. They have consecutive numbers, also those of two directions."""

    bidirectional: bool = False

    @linen.compact
    def __call__(self, x):
        for _ in range(2):
            make = lambda: linen.RNN(linen.OptimizedLSTMCell(H, param_dtype=jnp.float64))
            x = (linen.Bidirectional(make(), make()) if self.bidirectional else make())(x)
        return x


class SetUp(linen.Module):
    def setup(self):
        self.rnns = [linen.RNN(linen.LSTMCell(H, param_dtype=jnp.float64)) for _ in range(2)]

    def __call__(self, x):
        for rnn in self.rnns:
            x = rnn(x)
        return x


def sequential():
    return linen.Sequential([linen.RNN(linen_cell()), linen.RNN(linen_cell("LSTMCell"))])


LINEN_MODULES = {
    "Sequential": (sequential, {"layers_0", "layers_1"}, False),
    "setup": (SetUp, {"rnns_0", "rnns_1"}, False),
    "compact": (Compact, {"OptimizedLSTMCell_0", "OptimizedLSTMCell_1"}, False),
    "compact, both directions": (
        partial(Compact, bidirectional=True),
        {f"OptimizedLSTMCell_{n}" for n in range(4)},
        True,
    ),
}


@pytest.mark.parametrize("kind", LINEN_MODULES)
def test_stacks_of_linen_by_their_names(kind):
    make, names, bidirectional = LINEN_MODULES[kind]
    module, x = make(), x_of()
    weights = drawn(jax.eval_shape(module.init, KEY, x))
    assert set(weights["params"]) == names
    params = convert.from_flax(weights, bidirectional=bidirectional)
    assert_ours(params, jax.jit(module.apply)(weights, x), x)
    for same in (core.freeze(weights), weights["params"], {"encoder": weights["params"]}):
        assert_same_bits(convert.from_flax(same, bidirectional=bidirectional), params)


def test_what_to_flax_writes_is_sequentials_and_both_cells_tree():
    module, x, params = sequential(), x_of(), our_params(Network("lstm", D, H, 2))
    weights = {"params": convert.to_flax(params)}
    assert jax.tree.structure(weights) == jax.tree.structure(jax.eval_shape(module.init, KEY, x))
    assert_ours(params, jax.jit(module.apply)(weights, x), x)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_cell_is_lstm_cell(kind, cell):
    rng = np.random.default_rng(4)
    x, h, c = (jnp.asarray(rng.normal(size=(B, n))) for n in (D, H, H))
    if kind == "linen":
        module = linen_cell(cell)
        weights = drawn(jax.eval_shape(module.init, KEY, (c, h), x))
        (c_1, h_1), _ = jax.jit(module.apply)(weights, (c, h), x)
        params = convert.from_flax(weights)
    else:
        graph, state = nnx.split(nnx_cell(D, cell))
        state = drawn(state)
        (c_1, h_1), _ = jax.jit(lambda state: nnx.merge(graph, state)((c, h), x))(state)
        params = convert.from_nnx(state)
    named = {name.removesuffix("_l0"): a for name, a in params.items()}
    found = jax.jit(jax_lstm.lstm_cell)(named, LSTMState(h=h, c=c), x)
    np.testing.assert_allclose(found.h, h_1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.c, c_1, rtol=0, atol=1e-12)


class InList(nnx.Module):
    def __init__(self):
        self.rnns = nnx.List([nnx_rnn(D), nnx_rnn(H)])

    def __call__(self, x):
        for rnn in self.rnns:
            x = rnn(x)
        return x


NNX_MODULES = {
    "Sequential": lambda: nnx.Sequential(nnx_rnn(D), nnx_rnn(H)),
    "List": InList,
    "Bidirectional": lambda: nnx.Bidirectional(nnx_rnn(D), nnx_rnn(D)),
}


@pytest.mark.parametrize("kind", NNX_MODULES)
def test_stacks_of_nnx_by_their_names(kind):
    module, x = NNX_MODULES[kind](), x_of()
    state = drawn(nnx.state(module, nnx.Param))
    nnx.update(module, state)
    params = convert.from_nnx(state)
    assert_ours(params, nnx.jit(lambda module, x: module(x))(module, x), x)
    assert_same_bits(convert.from_nnx(nnx.to_pure_dict(state)), params)
    assert_same_bits(convert.from_nnx({"encoder": state}), params)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("network", ["one", "both directions", "two layers, both directions"])
def test_update_puts_written_weights_into_a_module(network, cell):
    params = our_params(NETWORKS[network])
    rnn = lambda width: nnx.RNN(nnx_cell(width, cell), rngs=nnx.Rngs(1))
    both = lambda width: nnx.Bidirectional(rnn(width), rnn(width))
    modules = {
        "one": lambda: rnn(D),
        "both directions": lambda: both(D),
        "two layers, both directions": lambda: nnx.Sequential(both(D), both(2 * H)),
    }
    module, x = modules[network](), x_of()
    nnx.update(module, convert.to_nnx(params, cell))
    assert_ours(params, nnx.jit(lambda module, x: module(x))(module, x), x)


def test_layers_are_in_the_order_of_numbers_and_not_of_letters():
    """JAX sorts keys: layers_10 comes before layers_2."""
    params = one_bias(our_params(Network("lstm", D, H, 12)))
    for write, read in ((convert.to_flax, convert.from_flax), (convert.to_nnx, convert.from_nnx)):
        assert_same_bits(read(jax.tree.map(np.copy, write(params))), params)


def test_lists_of_layers_and_of_cells():
    params = one_bias(our_params(Network("lstm", D, H, 2, bidirectional=True)))
    tree = convert.to_flax(params)
    assert_same_bits(convert.from_flax([tree["layers_0"], tree["layers_1"]]), params)
    ways = [tree[f"layers_{n}"][way]["cell"] for n in range(2) for way in ("forward_rnn", "backward_rnn")]
    assert_same_bits(convert.from_flax(ways, bidirectional=True), params)
    assert_same_bits(convert.from_flax((ways[:2], ways[2:]), bidirectional=True), params)
