"""Keras 2's CuDNNLSTM: two biases, and matrices in cuDNN's order of numbers.

Keras 3 does not have this layer, or Keras 2's conversion, ``_convert_rnn_weights`` of keras/engine/saving.py. So this
file contains that conversion, and Keras 3's LSTM runs its result.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import convert
from tests.support.keras_files import (
    bidirectional_config,
    cudnn_config,
    drawn_cell,
    lstm_config,
    named,
    sequential,
    write_model,
    write_weights,
)
from tests.support.keras_layers import EXACT, QUIET, keras, ours, run

pytestmark = QUIET
L = keras.layers
B, T, D, H = 2, 6, 3, 5
NAMES = ("kernel", "recurrent_kernel", "bias")


def cudnn(inputs=D, seed=0, dtype="float64"):
    return drawn_cell(inputs, H, seed, dtype, bias=8)


def of_lstm(weights):
    """Convert a CuDNNLSTM's weights to LSTM's, as Keras 2 does: transpose and reshape each gate's kernel by columns."""
    kernel, recurrent_kernel, bias = weights
    kernels = [gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(kernel, 4)]
    recurrent = [gate.T for gate in np.hsplit(recurrent_kernel, 4)]
    return [np.hstack(kernels), np.hstack(recurrent), np.sum(np.split(bias, 2), axis=0)]


def problem(rows):
    rng = np.random.default_rng(9)
    return rng.normal(size=(B, T, D)), rng.normal(size=(rows, B, H)), rng.normal(size=(rows, B, H))


def lstm(weights, bidirectional=False):
    layer = L.LSTM(H, return_sequences=True, return_state=True, dtype="float64", **EXACT)
    layer = L.Bidirectional(layer, dtype="float64") if bidirectional else layer
    layer.build((None, None, weights[0].shape[0]))
    layer.set_weights(weights)
    return layer


STACKS = {
    "one layer": (False, [cudnn()]),
    "two layers": (False, [cudnn(), cudnn(H, 1)]),
    "Bidirectional": (True, [cudnn(), cudnn(D, 1)]),
    "two Bidirectional": (True, [cudnn(), cudnn(D, 1), cudnn(2 * H, 2), cudnn(2 * H, 3)]),
}


@pytest.mark.parametrize("name", STACKS)
def test_outputs_are_those_of_keras_s_lstm_with_converted_weights(name):
    both, cells = STACKS[name]
    params = convert.from_keras([a for cell in cells for a in cell])
    size = 2 if both else 1
    groups = [cells[n : n + size] for n in range(0, len(cells), size)]
    layers = [lstm([a for cell in group for a in of_lstm(cell)], both) for group in groups]
    x, h, c = problem(len(cells))
    for found, wanted in zip(ours(params, x, h, c), run(layers, x, h, c), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_bit_is_kept(dtype):
    """The matrices equal those of Keras's conversion, bit for bit. There are two biases."""
    weights = cudnn(dtype=dtype)
    params = convert.from_keras(weights)
    wanted = convert.from_keras(of_lstm(weights))
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert params[name].dtype == dtype
        np.testing.assert_array_equal(params[name], wanted[name])
    np.testing.assert_array_equal(params["bias_ih_l0"], weights[2][: 4 * H])
    np.testing.assert_array_equal(params["bias_hh_l0"], weights[2][4 * H :])
    np.testing.assert_array_equal(params["bias_ih_l0"] + params["bias_hh_l0"], wanted["bias_ih_l0"])


def test_mappings_lists_and_tracing():
    weights = cudnn()
    params = convert.from_keras(weights)
    mapping = dict(zip(NAMES, weights, strict=True))
    for found in (convert.from_keras(mapping), convert.from_keras([weights]), jax.jit(convert.from_keras)(weights)):
        for name, array in params.items():
            np.testing.assert_array_equal(found[name], array)
    assert convert.from_keras(weights, dtype=jnp.float32)["bias_hh_l0"].dtype == jnp.float32
    kernel, recurrent_kernel, bias = weights
    for wrong in (bias[: 6 * H], bias[: 8 * H - 1], np.tile(bias, 2)):
        with pytest.raises(ValueError, match=r"bias \[4H\] or none, or CuDNNLSTM's \[8H\]; got"):
            convert.from_keras([kernel, recurrent_kernel, wrong])


def test_what_goes_back_is_lstm_s():
    """Keras 3 has no CuDNNLSTM: to_keras folds the biases, as Keras does."""
    for found, wanted in zip(convert.to_keras(convert.from_keras(cudnn())), of_lstm(cudnn()), strict=True):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="strict=True: Keras keeps one bias"):
        convert.to_keras(convert.from_keras(cudnn()), strict=True)


def assert_equal(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_files(tmp_path):
    cells = [cudnn(), cudnn(H, 1)]
    layers = {name: named(name, cell) for name, cell in zip(("cu_dnnlstm_1", "cu_dnnlstm_2"), cells, strict=True)}
    wanted = convert.from_keras([a for cell in cells for a in cell])
    whole = write_model(tmp_path / "m.h5", sequential(*map(cudnn_config, layers)), layers)
    for path in (whole, write_weights(tmp_path / "w.h5", layers)):
        assert_equal(convert.from_keras(path), wanted)
        found = convert.keras_networks(path)
        assert list(found) == list(layers)
        assert_equal(found["cu_dnnlstm_1"], convert.from_keras(cells[0]))


def test_bidirectional_files(tmp_path):
    forward, backward = cudnn(), cudnn(D, 1)
    weights = named("ways/forward_cu_dnnlstm", forward) | named("ways/backward_cu_dnnlstm", backward)
    whole = write_model(
        tmp_path / "m.h5", sequential(bidirectional_config("ways", cudnn_config("cu_dnnlstm"))), {"ways": weights}
    )
    for path in (whole, write_weights(tmp_path / "w.h5", {"ways": weights})):
        assert_equal(convert.from_keras(path), convert.from_keras(forward + backward, bidirectional=True))
    config = bidirectional_config("ways", cudnn_config("cu_dnnlstm"), merge_mode="sum")
    with pytest.raises(ValueError, match="ways has merge_mode='sum'"):
        convert.from_keras(write_model(tmp_path / "m.h5", sequential(config), {"ways": weights}))


def test_a_configuration_that_does_not_fit_the_weights(tmp_path):
    plain = drawn_cell(D, H)
    for config, weights, match in (
        (cudnn_config("a"), plain, "a is a CuDNNLSTM, and its weights are a LSTM's"),
        (lstm_config("a"), cudnn(), "a is a LSTM, and its weights are a CuDNNLSTM's"),
        (cudnn_config("a"), plain[:2], "a has use_bias=True and 2 weights"),
        (cudnn_config("a", go_backwards=True), cudnn(), "a has go_backwards=True"),
    ):
        path = write_model(tmp_path / "m.h5", sequential(config), {"a": named("a", weights)})
        with pytest.raises(ValueError, match=match):
            convert.from_keras(path)


@pytest.mark.parametrize("kind", ["CuDNNGRU", "GRU"])
def test_grus_are_refused_by_name(kind, tmp_path):
    sizes = {"CuDNNGRU": 6, "GRU": 3}[kind] * H
    weights = [np.ones((D, 3 * H)), np.ones((H, 3 * H)), np.ones(sizes)]
    config = sequential(lstm_config("a") | {"class_name": kind})
    whole = write_model(tmp_path / "m.h5", config, {"a": named("a", weights)})
    with pytest.raises(ValueError, match=rf"there is no LSTM layer; the layers are: a \({kind}\)"):
        convert.from_keras(whole)
    assert f"a is a {kind}; supported: LSTM" in convert.keras_networks(whole)["a"].reason
    with pytest.raises(ValueError, match="These look like a GRU's, which is no LSTM"):
        convert.from_keras(weights)
    assert "a GRU's" in convert.keras_networks(write_weights(tmp_path / "w.h5", {"a": named("a", weights)}))["a"].reason


def test_both_biases_reach_our_outputs():
    """The network uses their sum: without the second bias, the outputs differ."""
    weights = cudnn()
    params = convert.from_keras(weights)
    x, *_ = problem(1)
    whole, _ = jax_lstm.lstm(params, x)
    half, _ = jax_lstm.lstm(params | {"bias_hh_l0": jnp.zeros(4 * H)}, x)
    assert np.abs(whole - half).max() > 0.01
