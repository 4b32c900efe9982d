"""Trees of whole models: Flax's cells are replaced by this package's, and back."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import core
from flax import nnx as flax

from jax_lstm import convert
from jax_lstm._src.network import Network
from tests.support.conversion import assert_same_bits, drawn, one_bias, our_params

D, H = 4, 5
NETWORK = Network("lstm", D, H)
BOTH_BIASES = our_params(NETWORK)
PROJECTED = our_params(Network("lstm", D, H, proj_size=2))


class Model(nn.Module):
    """A model with cells at several depths and other modules. A GRU shares no name of an LSTM's entries, an MGU two."""

    def setup(self):
        self.both = nn.Bidirectional(nn.RNN(nn.LSTMCell(H)), nn.RNN(nn.OptimizedLSTMCell(H)))
        self.top, self.gated, self.minimal = (nn.RNN(cell(H)) for cell in (nn.LSTMCell, nn.GRUCell, nn.MGUCell))
        self.head = nn.Dense(2)

    def __call__(self, x):
        return self.head(self.minimal(self.gated(self.top(self.both(x)))))


def linen_weights():
    like = jax.eval_shape(Model().init, jax.random.key(0), jnp.zeros((2, 3, D), jnp.float32))["params"]
    return jax.tree.map(np.asarray, drawn(like))


def test_every_cell_of_a_linen_model_and_nothing_else():
    theirs = linen_weights()
    ours = convert.cells_from_flax(theirs)
    assert set(ours["top"]["cell"]) == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
    for path in (("both", "forward_rnn"), ("both", "backward_rnn"), ("top",)):
        found, expected = ours, theirs
        for name in path:
            found, expected = found[name], expected[name]
        assert_same_bits(found["cell"], convert.cell(convert.from_flax(expected)))
    for name in ("minimal", "gated", "head"):
        assert ours[name] == theirs[name]
        assert jax.tree.leaves(ours[name])[0] is jax.tree.leaves(theirs[name])[0]
    assert_same_bits(convert.cells_to_flax(ours, strict=True), theirs)
    frozen = convert.cells_from_flax(core.freeze({"params": theirs}))
    assert_same_bits(core.unfreeze(frozen)["params"], ours)


def test_the_state_of_an_optimizer_goes_over():
    state = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)).init(linen_weights())
    found = convert.cells_from_flax(state)
    assert jax.tree.structure(found) == jax.tree.structure(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)).init(convert.cells_from_flax(linen_weights()))
    )
    assert_same_bits(convert.cells_to_flax(found), state)


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_every_cell_of_an_nnx_model_and_nothing_else(cell):
    class Model(flax.Module):
        def __init__(self, rngs):
            self.rnns = flax.List([flax.RNN(getattr(flax, cell)(n, H, rngs=rngs)) for n in (D, H)])
            self.gated, self.head = flax.RNN(flax.GRUCell(H, H, rngs=rngs)), flax.Linear(H, 2, rngs=rngs)

    state = flax.state(Model(flax.Rngs(0)), flax.Param)
    theirs = drawn(flax.to_pure_dict(state))
    ours = convert.cells_from_nnx(theirs)
    for number in (0, 1):
        expected = convert.cell(convert.from_nnx(theirs["rnns"][number]))
        assert_same_bits(ours["rnns"][number]["cell"], expected)
    for name in ("gated", "head"):
        assert_same_bits(ours[name], theirs[name])
    assert_same_bits(convert.cells_to_nnx(ours, cell, strict=True), theirs)
    flax.replace_by_pure_dict(state, theirs)
    assert_same_bits(flax.to_pure_dict(convert.cells_from_nnx(state))["rnns"][1]["cell"], ours["rnns"][1]["cell"])


def test_dtype_is_only_that_of_the_cells():
    narrow = convert.cells_from_flax(linen_weights(), dtype=jnp.float32)
    assert {a.dtype for a in narrow["top"]["cell"].values()} == {np.dtype("float32")}
    assert narrow["head"]["kernel"].dtype == np.float64


def test_two_biases_are_folded_or_refused():
    cell = convert.cell(BOTH_BIASES)
    tree = {"a": {"cell": cell}}
    assert_same_bits(convert.cells_to_flax(tree)["a"]["cell"], convert.to_flax(cell))
    assert_same_bits(convert.cells_to_nnx(tree, "LSTMCell")["a"]["cell"], convert.to_nnx(cell, "LSTMCell"))
    for write in (convert.cells_to_flax, convert.cells_to_nnx):
        with pytest.raises(ValueError, match="strict=True: Flax keeps one bias"):
            write(tree, strict=True)
    assert_same_bits(convert.cells_to_nnx(tree)["a"]["cell"], convert.to_nnx(cell))


def without(tree, name):
    return {key: value for key, value in tree.items() if key != name}


FLAX = convert.to_flax(convert.cell(one_bias(BOTH_BIASES)))
BAD = {
    "none in linen's": (
        convert.cells_from_flax,
        {"Dense_0": {"kernel": jnp.ones(1)}},
        "tree must be a tree with a flax.lin",
    ),
    "none in nnx's": (
        convert.cells_from_nnx,
        {"a": FLAX},
        "It looks like flax.linen's: read it with convert.from_flax",
    ),
    "none of ours": (convert.cells_to_flax, {"a": FLAX}, "tree must be a tree with a cell by torch's names"),
    "a gate too few": (
        convert.cells_from_flax,
        {"cell": without(FLAX, "hg")},
        "tree must be a tree with .* in it; got",
    ),
    "an entry too many": (convert.cells_from_flax, {"cell": FLAX | {"extra": FLAX["ii"]}}, "without extra/kernel"),
    "another gate's shape": (
        convert.cells_from_flax,
        {"c": FLAX | {"ig": {"kernel": jnp.ones((2, H))}}},
        r"ig \(2, 5\)",
    ),
    "a projection": (convert.cells_to_flax, {"c": convert.cell(PROJECTED)}, "Flax has no place for weight_hr"),
    "an unknown cell": (
        lambda tree: convert.cells_to_nnx(tree, "GRUCell"),
        {"c": convert.cell(PROJECTED)},
        "got 'GRUCell'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    convert_, tree, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        convert_(tree)
