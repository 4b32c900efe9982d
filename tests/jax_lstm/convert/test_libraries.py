"""Each library's own forward agrees with jax_lstm on weights converted in both directions. Converters can be traced."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from tests.support.conversion import assert_reads, assert_writes, build, drawn, our_params, ours
from tests.support.libraries import LIBRARIES, NETWORKS, PAIRS, inputs
from tests.support.requirements import need

JAX = [name for name in LIBRARIES if name != "torch"]  # to_torch returns NumPy arrays and is tested in test_torch.py
TREES = [name for name in JAX if name != "cudnn"]

WHERE = {
    "linen": "tree['ii']['kernel']",
    "nnx": "state[",
    "haiku": "params['lstm/linear']['w']",
    "equinox": "cells.weight_ih",
    "cudnn": "weights",
}


def network_of(library):
    """Return a network of two layers in both directions, or of three layers if the library has no directions."""
    both = NETWORKS["two layers, both directions"]
    return both if library.has(both) else NETWORKS["three layers"]


@pytest.mark.parametrize(("library", "network"), PAIRS)
def test_their_weights_run_in_ours(library, network):
    assert_reads(library, network)


@pytest.mark.parametrize(("library", "network"), PAIRS)
def test_our_weights_run_in_theirs(library, network):
    assert_writes(library, network)


@pytest.mark.parametrize("name", JAX)
def test_both_ways_trace(name):
    library = LIBRARIES[name]
    network = network_of(library)
    params = jax.tree.map(jnp.asarray, our_params(network))
    written = library.write(params)
    read = library.read_for(network)
    assert_equal(jax.jit(library.write)(params), written)
    assert_equal(jax.jit(read)(written), read(written))
    shapes = jax.eval_shape(library.write, params)
    assert jax.tree.structure(shapes) == jax.tree.structure(written)


@pytest.mark.parametrize("name", JAX)
def test_gradients_flow_back_to_torchs_names(name):
    """A converter is affine: the product of a weight difference and cotangents is the same before and after it."""
    library = LIBRARIES[name]
    network = network_of(library)
    params = jax.tree.map(jnp.asarray, our_params(network))
    cotangents = drawn(library.write(params))
    weigh = lambda tree: sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (tree, cotangents)), strict=True))
    gradient = jax.jit(jax.grad(lambda p: weigh(library.write(p))))(params)
    assert {n: g.shape for n, g in gradient.items()} == {n: a.shape for n, a in params.items()}
    for layer, suffix in network.rows if not library.two_biases else ():
        row = f"_l{layer}{suffix}"
        np.testing.assert_array_equal(gradient[f"bias_ih{row}"], gradient[f"bias_hh{row}"])
    other = drawn(params)
    for changed in params:  # one array at a time: one error could hide another
        moved = params | {changed: other[changed]}
        change = jax.tree.map(jnp.subtract, library.write(moved), library.write(params))
        by_gradient = jnp.vdot(gradient[changed], moved[changed] - params[changed])
        np.testing.assert_allclose(weigh(change), by_gradient, rtol=0, atol=1e-12)  # sums of about 100 terms


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "Optimized" in name else []) for name in JAX]
)
def test_a_loss_of_their_forward_has_the_gradients_of_ours(name):
    library = LIBRARIES[name]
    library.need()
    network = network_of(library)
    built, arrays = build(library, network), tuple(inputs(network))
    params = jax.tree.map(jnp.asarray, our_params(network))
    loss = lambda run: lambda p: sum(jnp.sum(jnp.sin(a)) for a in run(p, *arrays))
    theirs = jax.jit(jax.grad(loss(lambda p, *a: built.run(library.write(p), *a))))(params)
    for entry, gradient in jax.jit(jax.grad(loss(ours)))(params).items():
        np.testing.assert_allclose(theirs[entry], gradient, rtol=0, atol=1e-11, err_msg=entry)


@pytest.mark.parametrize("name", JAX)
def test_numpy_in_gives_numpy_out_and_jax_gives_jax(name):
    library = LIBRARIES[name]
    params = our_params(network_of(library))
    for kind, given in ((np.ndarray, params), (jax.Array, jax.tree.map(jnp.asarray, params))):
        assert all(
            isinstance(leaf, kind) and leaf.dtype == np.float64 for leaf in jax.tree.leaves(library.write(given))
        )


@pytest.mark.parametrize("name", JAX)
def test_float64_is_never_rounded_in_silence(name):
    library = LIBRARIES[name]
    network = network_of(library)
    params = our_params(network)
    written = library.write(params)
    with jax.enable_x64(False):
        assert_equal(library.write(params), written)
        where = WHERE[name.partition(".")[0]]
        with pytest.raises(ValueError, match=rf"{re.escape(where)}.* is to be float64, .*dtype=jnp.float32"):
            library.read_for(network)(written)
        read = library.read_for(network)(written, dtype=jnp.float32)
        assert {a.dtype for a in read.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", TREES)
def test_a_cell_by_its_own_names_is_written_like_layer_0(name):
    library = LIBRARIES[name]
    params = our_params(NETWORKS["one"])
    cell = {n.removesuffix("_l0"): a for n, a in params.items()}
    unwrapped = library.write(params)
    if name.startswith(("linen", "nnx")):  # these have a layer's cell inside an RNN
        unwrapped = unwrapped["cell"]
    assert_equal(library.write(cell), unwrapped)
    assert set(library.read(library.write(cell))) == set(params)


@pytest.mark.parametrize("name", TREES)
def test_what_no_converter_can_write(name):
    write = LIBRARIES[name].write
    key = jax.random.key(0)
    library = {"linen": "Flax", "nnx": "Flax", "haiku": "Haiku", "equinox": "Equinox"}[name.partition(".")[0]]
    with pytest.raises(ValueError, match=rf"no projection: {library} has no place for weight_hr \(2, 5\)"):
        write(jax_lstm.init_lstm(key, 3, 5, proj_size=2))
    with pytest.raises(ValueError, match="params are an RNN's"):
        write(jax_lstm.init_rnn(key, 3, 5))
    if not LIBRARIES[name].no_bias:
        with pytest.raises(ValueError, match=rf"must have biases: {library} always has one. Add zeros"):
            write(jax_lstm.init_lstm(key, 3, 5, bias=False))
    for wrong in (None, [np.ones(3)], np.ones(3)):
        with pytest.raises(TypeError, match="must be a flat dict of arrays by torch's names"):
            write(wrong)
    with pytest.raises(ValueError, match=r"lacks 'weight_ih_l0'; got nothing"):
        write({})
    with pytest.raises(ValueError, match=r"\['weight_hh'\] must be \[4H, H\] for an LSTM"):
        write({"weight_ih": np.ones((16, 3)), "weight_hh": np.ones((16, 5))})
    with pytest.raises(ValueError, match=r"are a GRU's weights: weight_hh is \[3H, H\]"):
        write({"weight_ih": np.ones((15, 3)), "weight_hh": np.ones((15, 5))})


@pytest.mark.parametrize("name", TREES)
def test_tensors_of_torch_are_refused(name):
    with pytest.raises(TypeError, match=r"a torch tensor came .*from_torch"):
        LIBRARIES[name].write(need("torch").nn.LSTM(3, 5).state_dict())


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
