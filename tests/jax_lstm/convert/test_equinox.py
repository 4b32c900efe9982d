"""equinox.nn.LSTMCell as a module, as a mapping and in lists, and the input that from_equinox refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, convert
from jax_lstm._src.network import Network
from tests.support.conversion import assert_same_bits, one_bias, our_params
from tests.support.libraries import NETWORKS, B, D, H
from tests.support.requirements import need

eqx = need("equinox")
KEY = jax.random.key(0)
ARRAYS = ("weight_ih", "weight_hh", "bias")


@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_is_lstm_cell(bias):
    rng = np.random.default_rng(4)
    x, h, c = (jnp.asarray(rng.normal(size=(B, n))) for n in (D, H, H))
    cell = eqx.nn.LSTMCell(D, H, use_bias=bias, dtype=jnp.float64, key=KEY)
    h_1, c_1 = jax.jit(jax.vmap(lambda x, h, c: cell(x, (h, c))))(x, h, c)
    params = {name.removesuffix("_l0"): a for name, a in convert.from_equinox(cell).items()}
    assert ("bias_ih" in params) == bias
    found = jax.jit(jax_lstm.lstm_cell)(params, LSTMState(h=h, c=c), x)
    np.testing.assert_allclose(found.h, h_1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.c, c_1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_modules_mappings_and_lists_are_the_same(bias):
    cells = [eqx.nn.LSTMCell(width, H, use_bias=bias, key=KEY) for width in (D, H)]
    mappings = [{name: getattr(cell, name) for name in ARRAYS} for cell in cells]
    params = convert.from_equinox(cells)
    for same in (tuple(cells), mappings, {0: cells[0], 1: cells[1]}, {"cells": mappings}, [cells[0], mappings[1]]):
        assert_same_bits(convert.from_equinox(same), params)
    for written, mapping in zip(convert.to_equinox(params, strict=True), mappings, strict=True):
        assert_same_bits(written, mapping)
    without = [{name: a for name, a in mapping.items() if a is not None} for mapping in mappings]
    assert_same_bits(convert.from_equinox(without), params)


def test_written_weights_go_into_a_cell_as_the_docstring_says():
    cell = eqx.nn.LSTMCell(D, H, dtype=jnp.float64, key=KEY)
    params = one_bias(our_params(NETWORKS["one"]))
    for written in (convert.to_equinox(params), jax.jit(convert.to_equinox)(params)):  # JAX sorts the keys of a dict
        filled = eqx.tree_at(lambda c: [getattr(c, name) for name in written], cell, list(written.values()))  # noqa: B023
        assert_same_bits(convert.from_equinox(filled), params)


def test_pairs_are_directions_where_it_is_said():
    params = one_bias(our_params(Network("lstm", H, H, 2, bidirectional=True)))
    written = convert.to_equinox(params)
    assert len(written) == 4
    assert_same_bits(convert.from_equinox(written, bidirectional=True), params)
    assert_same_bits(convert.from_equinox([written[:2], written[2:]], bidirectional=True), params)
    for count in (1, 3):
        with pytest.raises(ValueError, match=rf"in pairs, forward and reverse; got {count} cells?\."):
            convert.from_equinox(written[:count], bidirectional=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, "got NoneType"),
        ([], "got nothing"),
        ({}, "got nothing"),
        ([1, 2], "got 0 int, 1 int"),
        ("cell", "got str"),
        (np.ones(3), r"got numpy.ndarray \(3,\)"),
        ([[]], "got nothing"),
        (eqx.nn.Linear(3, 4, key=KEY), "got equinox.nn._linear.Linear"),
    ],
    ids=str,
)
def test_what_is_no_cell(wrong, told):
    with pytest.raises(ValueError, match=rf"cells must be an equinox.nn.LSTMCell, .*{told}"):
        convert.from_equinox(wrong)


def test_a_cell_of_torch_is_told():
    told = r"looks like torch's: read it with convert.from_torch\(module.state_dict\(\)\)"
    with pytest.raises(ValueError, match=rf"cells must be an equinox.nn.LSTMCell, .*{told}"):
        convert.from_equinox(need("torch").nn.LSTMCell(3, 5))


def test_missing_and_surplus_arrays():
    right = convert.to_equinox(our_params(NETWORKS["one"]))
    for name in ("weight_ih", "weight_hh"):
        with pytest.raises(ValueError, match=r"cells must be an equinox.nn.LSTMCell, or a mapping of its weight_ih"):
            convert.from_equinox({n: a for n, a in right.items() if n != name})
    with pytest.raises(ValueError, match=r"cells must be an equinox.nn.LSTMCell, .*got .*weight_hr"):
        convert.from_equinox(right | {"weight_hr": np.ones((2, 5))})
    with pytest.raises(TypeError, match=r"cells.bias must be a tensor or array; got bool"):
        convert.from_equinox(right | {"bias": True})


def test_grus_are_no_lstms():
    with pytest.raises(ValueError, match=r"bias_n \(5,\)\. It looks like a GRU of Equinox, not an LSTM"):
        convert.from_equinox(eqx.nn.GRUCell(D, H, key=KEY))
    with pytest.raises(ValueError, match=r"are a GRU's weights: weight_hh is \[3H, H\] = \(15, 5\)"):
        convert.from_equinox(eqx.nn.GRUCell(D, H, use_bias=False, key=KEY))


def test_wrong_ranks_and_layers_that_do_not_fit():
    right = convert.to_equinox(our_params(NETWORKS["one"]))
    for shape in ((), (20,), (20, 5, 1)):
        with pytest.raises(ValueError, match=r"layer 0, by torch's names: params\['weight_hh'\] must be"):
            convert.from_equinox(right | {"weight_hh": np.ones(shape)})
    with pytest.raises(ValueError, match=r"layer 0, by torch's names: params\['bias_ih'\] must have shape \(20,\)"):
        convert.from_equinox(right | {"bias": np.ones(19)})
    with pytest.raises(TypeError, match=r"layer 0, by torch's names: .*must be floating point; got dtype int"):
        convert.from_equinox(jax.tree.map(lambda a: a.astype(int), right))
    cell = lambda *sizes, **options: convert.to_equinox(our_params(Network("lstm", *sizes, **options)))
    for cells, told in (
        ([cell(4, 5), cell(5, 6)], "layer 1 has hidden size 6, where 5 is expected"),
        ([cell(4, 5), cell(4, 5)], "layer 1 has input size 4, where 5 is expected"),
        ([cell(4, 5), cell(5, 5, bias=False)], "layer 1 has biases False, where True is expected"),
    ):
        with pytest.raises(ValueError, match=told):
            convert.from_equinox(cells)
    with pytest.raises(ValueError, match="layer 0, reverse has input size 3, where 4 is expected"):
        convert.from_equinox([cell(4, 5), cell(3, 5)], bidirectional=True)
