"""Input that from_flax and from_nnx refuse: missing and surplus leaves, wrong shapes, layers that are no stack."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from flax import nnx

from jax_lstm import convert
from jax_lstm._src.network import Network
from tests.support.conversion import our_params
from tests.support.libraries import NETWORKS, D, H

READERS = {
    "linen": (convert.from_flax, lambda params: convert.to_flax(params), "tree", "ii"),
    "nnx": (convert.from_nnx, partial(convert.to_nnx, cell="LSTMCell"), "state", "ii"),
    "nnx, fused": (convert.from_nnx, convert.to_nnx, "state", "dense_i"),
}
LEAVES = {
    kind: [(entry, leaf) for entry, leaves in write(our_params(NETWORKS["one"]))["cell"].items() for leaf in leaves]
    for kind, (_, write, *_) in READERS.items()
}


@pytest.mark.parametrize("kind", READERS)
def test_missing_and_surplus_leaves_are_named(kind):
    read, write, argument, _ = READERS[kind]
    library = "flax.linen's" if kind == "linen" else "flax.nnx's"
    for entry, leaf in LEAVES[kind]:
        tree = write(our_params(NETWORKS["one"]))
        del tree["cell"][entry][leaf]
        with pytest.raises(
            ValueError, match=rf"{argument} must be .* {library} .*, with {entry}/{leaf}; got"
        ) as caught:
            read(tree)
        assert "looks like" not in str(caught.value)  # the tree is of this library
    tree = write(our_params(NETWORKS["one"]))
    tree["cell"][entry]["scale"] = np.ones(H)
    with pytest.raises(ValueError, match=rf", without {entry}/scale; got"):
        read(tree)
    tree = write(our_params(NETWORKS["one"]))
    tree["cell"]["norm"] = {"scale": np.ones(H)}
    with pytest.raises(ValueError, match=", without norm/scale; got"):
        read(tree)


@pytest.mark.parametrize("kind", READERS)
def test_wrong_ranks_and_sizes_are_named(kind):
    read, write, argument, first = READERS[kind]
    for shape in ((), (5,), (4, 5, 1), (4, 6)):
        tree = write(our_params(NETWORKS["one"]))
        tree["cell"][first]["kernel"] = np.ones(shape)
        if kind == "nnx, fused":
            told = rf"by torch's names: .*weight_ih.* {np.zeros(shape).T.shape}".replace("(", r"\(").replace(")", r"\)")
        else:
            told = rf"{argument} must have one kernel \[in, H\] per gate, all of one shape; got ii \{str(shape)[:-1]}\)"
        with pytest.raises(ValueError, match=told):
            read(tree)
    tree = write(our_params(NETWORKS["one"]))
    tree["cell"][first]["kernel"] = "kernel"
    with pytest.raises(TypeError, match=rf"{argument}\['{first}'\]\['kernel'\] must be a tensor or array; got str"):
        read(tree)


@pytest.mark.parametrize("kind", READERS)
def test_layers_that_do_not_fit(kind):
    read, write, *_ = READERS[kind]
    layer = lambda *sizes, **options: write(our_params(Network("lstm", *sizes, **options)))
    for layers, told in (
        ([layer(4, 5), layer(5, 6)], "layer 1 has hidden size 6, where 5 is expected"),
        ([layer(4, 5), layer(4, 5)], "layer 1 has input size 4, where 5 is expected"),
        ([layer(4, 5, bidirectional=True), layer(5, 5, bidirectional=True)], "layer 1 has input size 5, where 10 is"),
        ([layer(4, 5), layer(5, 5, bidirectional=True)], "layer 1 has 2 directions and layer 0 has 1"),
        ([layer(4, 5, bidirectional=True), layer(10, 5)], "layer 1 has 1 direction and layer 0 has 2"),
    ):
        with pytest.raises(ValueError, match=told):
            read(layers)
    both = layer(4, 5, bidirectional=True)
    both["backward_rnn"] = layer(3, 5)
    with pytest.raises(ValueError, match="layer 0, reverse has input size 3, where 4 is expected"):
        read(both)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_stack(kind):
    read, write, argument, _ = READERS[kind]
    cell = write(our_params(NETWORKS["one"]))
    expected = rf"{argument} must be .* by numbers 0, 1, \.\.\.; got"
    if kind != "linen":
        expected = rf"{argument} must be .* by numbers 0, 1, .*nnx.state\(module, nnx.Param\) gives it; got"
    for wrong in (
        None,
        [],
        {},
        (),
        "tree",
        3,
        [1, 2],
        np.ones(3),
        {"params": {}},
        {"layers_0": cell, "layers_2": cell},  # a layer in between may be missing
        {"layers_1": cell, "layers_2": cell},
        {"a_0": cell, "b_1": cell},
        {"lstm": cell, "head": {"kernel": np.ones((5, 2))}},
        {"forward_rnn": cell, "backward_rnn": cell, "other_rnn": cell},
        {"backward_rnn": cell},
        {"forward_rnn": [cell, cell], "backward_rnn": cell},
    ):
        with pytest.raises(ValueError, match=expected):
            read(wrong)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("cells", [1, 3])
def test_an_odd_number_of_cells_is_no_two_directions(kind, cells):
    read, write, *_ = READERS[kind]
    tree = write(our_params(Network("lstm", H, H, cells)))
    with pytest.raises(ValueError, match=rf"wants cells in pairs, forward and reverse; got {cells} cells?\."):
        read(tree, bidirectional=True)


def test_the_random_state_of_nnx_is_no_weight():
    module = nnx.RNN(nnx.LSTMCell(D, H, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"state must be .* as nnx.state\(module, nnx.Param\) gives it; got cell/"):
        convert.from_nnx(nnx.state(module))
    with pytest.raises(ValueError, match=r"nnx.state\(module, nnx.Param\) gives it; got flax.nnx\S*\.RNN\."):
        convert.from_nnx(module)


def test_an_unknown_cell_of_nnx():
    with pytest.raises(ValueError, match="cell must be one of 'LSTMCell', 'OptimizedLSTMCell'; got 'GRUCell'"):
        convert.to_nnx(our_params(NETWORKS["one"]), "GRUCell")
