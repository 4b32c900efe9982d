"""Old HDF5 files of whole models and of weights, written by Keras 3, are compared with what Keras itself loads."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jax_lstm
from jax_lstm import convert
from tests.jax_lstm.convert.keras.test_files import same
from tests.project.test_architecture import run_without
from tests.support.keras_files import h5py, load_old, save_old
from tests.support.keras_layers import EXACT, QUIET, drawn, keras

pytestmark = QUIET
L = keras.layers
B, T, D, H = 2, 5, 3, 4
KINDS = pytest.mark.parametrize("kind", [0, 1], ids=["whole model", "weights"])


def lstm(name=None, **options):
    return L.LSTM(H, return_sequences=True, name=name, **options)


def both(name=None, **options):
    return L.Bidirectional(lstm(**options), name=name, dtype=options.get("dtype"))


def sequential(*layers, name=None, dtype=None):
    return drawn(keras.Sequential([keras.Input((None, D), dtype=dtype or layers[0].dtype), *layers], name=name))


def functional(**options):
    x = keras.Input((None, D), dtype=options["dtype"])
    y = L.Dropout(0.2, dtype=options["dtype"])(lstm("low", **options)(x))
    return drawn(keras.Model(x, lstm("high", **options)(y)))


STACKS = {
    "LSTM": lambda o: sequential(lstm(**o)),
    "no bias": lambda o: sequential(lstm(use_bias=False, **o)),
    "dropout": lambda o: sequential(lstm(dropout=0.1, recurrent_dropout=0.2, seed=1, **o)),
    "two layers": lambda o: sequential(lstm("z", **o), L.Dropout(0.1, dtype=o["dtype"]), lstm("a", **o)),
    "frozen": lambda o: sequential(lstm("z", trainable=False, **o), lstm("a", **o)),
    "functional": lambda o: functional(**o),
    "Bidirectional": lambda o: sequential(both(**o)),
    "two Bidirectional": lambda o: sequential(both("z", **o), both("a", **o)),
    "RNN of two cells": lambda o: sequential(
        L.RNN(
            L.StackedRNNCells([L.LSTMCell(H, **o), L.LSTMCell(H, **o)], dtype=o["dtype"]),
            return_sequences=True,
            dtype=o["dtype"],
        )
    ),
    "a model in the model": lambda o: sequential(
        keras.Sequential([keras.Input((None, D), dtype=o["dtype"]), lstm("high", **o), lstm("a", **o)], name="inner"),
        dtype=o["dtype"],
    ),
}


def ours(params, x):
    return jax.jit(jax_lstm.lstm)(params, x)[0]


def weights_of(model):
    """Return the weights of all cells of a model of LSTM layers as get_weights does, but in the order of the layers."""
    layers = [layer for layer in model.layers if layer.get_weights()]
    return [a for layer in layers for a in (weights_of(layer) if hasattr(layer, "layers") else layer.get_weights())]


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STACKS)
def test_weights_are_those_that_keras_loads_and_outputs_its_own(name, dtype, kind, tmp_path):
    """Keras rounds tanh to float32 also in float64 layers. A dozen steps of that differ by less than 5e-6."""
    model = STACKS[name]({"dtype": dtype})
    files = save_old(model, tmp_path)
    loaded = load_old(files, model)[kind]
    params = convert.from_keras(files[kind])
    wanted = convert.from_keras(weights_of(loaded), bidirectional="Bidirectional" in name)
    assert list(params) == list(wanted)
    for key, array in wanted.items():
        assert params[key].dtype == dtype
        np.testing.assert_array_equal(params[key], array)
    x = np.random.default_rng(1).normal(size=(B, T, D)).astype(dtype)
    np.testing.assert_allclose(ours(params, x), loaded(x, training=False), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", STACKS)
def test_outputs_to_rounding_in_float64(name, tmp_path):
    """The activations compute in float64. A file of weights does not mention them."""
    model = STACKS[name]({"dtype": "float64", **EXACT})
    _, weights = save_old(model, tmp_path)
    x = np.random.default_rng(1).normal(size=(B, T, D))
    np.testing.assert_allclose(ours(convert.from_keras(weights), x), model(x), rtol=0, atol=1e-12)


@KINDS
@pytest.mark.parametrize("ending", ["x.h5", "x.hdf5", "x.weights.h5", "x.keras", "x"])
def test_the_content_says_what_a_file_is(ending, kind, tmp_path):
    model = STACKS["two layers"]({"dtype": None})
    path = save_old(model, tmp_path)[kind].rename(tmp_path / ending)
    same(convert.from_keras(path), [model.layers[0], model.layers[2]])
    same(convert.from_keras(str(path), layers="a"), [model.layers[2]])


@pytest.mark.parametrize("ending", ["x.h5", "x"])
def test_files_of_keras_3_by_other_names(ending, tmp_path):
    model = STACKS["LSTM"]({})
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "m.keras")
    for file in (tmp_path / "m.weights.h5", tmp_path / "m.keras"):
        same(convert.from_keras(file.rename(tmp_path / ending)), model.layers)


@KINDS
def test_layers_are_chosen_by_name(kind, tmp_path):
    x = keras.Input((None, D))
    y = L.Dense(H, name="dense")(both("ways")(x))
    inner = keras.Sequential([keras.Input((None, H)), lstm("one"), L.Dense(H), lstm("two")], name="inner")
    model = drawn(keras.Model(x, inner(L.GRU(H, return_sequences=True, name="gru")(y))))
    file = save_old(model, tmp_path)[kind]
    same(convert.from_keras(file, layers="ways"), [model.get_layer("ways")])
    same(convert.from_keras(file, layers="inner/two"), [inner.get_layer("two")])
    listed = r"the LSTM layers are: 'ways', 'inner/one', 'inner/two'\."
    with pytest.raises(ValueError, match=rf"there is no layer 'two'; {listed}"):
        convert.from_keras(file, layers="two")
    with pytest.raises(ValueError, match=f"'gru' is a (GRU|group of other weights), no LSTM; {listed}"):
        convert.from_keras(file, layers="gru")
    with pytest.raises(ValueError, match=f"'dense' is a (Dense|group of other weights), no LSTM; {listed}"):
        convert.from_keras(file, layers="dense")
    if kind == 0:  # a file of weights does not name the layers in between
        with pytest.raises(ValueError, match=r"'inner/two' reads inner/dense.*, and not 'inner/one'"):
            convert.from_keras(file, layers=["inner/one", "inner/two"])


def test_models_two_deep_with_layers_of_one_name(tmp_path):
    """In Keras 3, a weight's name has the model's name before the layer's: "one/one" and "one/two" here."""
    deep = keras.Sequential([keras.Input((None, H)), lstm("one"), lstm("two")], name="one")
    middle = keras.Sequential([keras.Input((None, H)), lstm("two"), deep], name="middle")
    model = sequential(lstm("one"), middle)
    for file in save_old(model, tmp_path):
        same(convert.from_keras(file, layers="middle/one/one"), deep.layers[:1])
        same(convert.from_keras(file, layers="middle/one/two"), deep.layers[1:])
        same(convert.from_keras(file, layers="middle/two"), middle.layers[:1])
        same(convert.from_keras(file, layers="one"), model.layers[:1])


def test_a_backward_layer_with_a_name_of_its_own(tmp_path):
    """A file of weights does not say that two cells with other names are one layer."""
    forward, backward = lstm("f"), lstm("other", go_backwards=True)
    model = sequential(L.Bidirectional(forward, backward_layer=backward, name="ways"), name="top")
    whole, weights = save_old(model, tmp_path)
    same(convert.from_keras(whole), model.layers)
    assert list(convert.keras_networks(weights)) == ["ways/forward_f", "ways/other"]


def test_a_frozen_half_changes_the_order_in_the_file(tmp_path):
    """Weights that are not trained come last in the file."""
    model = sequential(both("ways"))
    model.layers[0].forward_layer.trainable = False
    files = save_old(model, tmp_path)
    with h5py.File(files[1]) as file:
        assert "backward" in file["ways"].attrs["weight_names"][0]
    same_order = model.layers[0].forward_layer.get_weights() + model.layers[0].backward_layer.get_weights()
    wanted = convert.from_keras(same_order, bidirectional=True)
    for file in files:
        params = convert.from_keras(file)
        for name, array in wanted.items():
            np.testing.assert_array_equal(params[name], array)


@KINDS
def test_states_of_a_stateful_layer_are_no_weights(kind, tmp_path):
    model = drawn(keras.Sequential([keras.Input((T, D), batch_size=B), lstm("a", stateful=True)]))
    file = save_old(model, tmp_path)[kind]
    same(convert.from_keras(file), [model.layers[0].cell])


@KINDS
def test_names_that_keras_splits_into_several_attributes(kind, tmp_path):
    long = [f"{n:02d}" + "x" * 3000 for n in range(22)]
    layers = [L.Dropout(0.5, name=name) for name in long]
    model = sequential(*layers[:11], lstm("y" * 30000), *layers[11:], lstm("b"))
    file = save_old(model, tmp_path)[kind]
    with h5py.File(file) as opened:
        group = opened["model_weights"] if kind == 0 else opened
        assert {"layer_names0", "layer_names1"} < set(group.attrs)
        assert {"weight_names0", "weight_names1"} <= set(group["y" * 30000].attrs)
    same(convert.from_keras(file), [layer for layer in model.layers if isinstance(layer, L.LSTM)])


def test_keras_is_not_needed(tmp_path):
    model = STACKS["no bias"]({})
    whole, weights = map(str, save_old(model, tmp_path))
    code = f"from jax_lstm import convert; print(*convert.from_keras({whole!r}), *convert.from_keras({weights!r}))"
    assert (
        run_without({"keras", "tensorflow", "torch"}, code) == "weight_ih_l0 weight_hh_l0 weight_ih_l0 weight_hh_l0\n"
    )


REFUSED = {
    "activation": (lambda: lstm("a", activation="relu"), "a has activation='relu', where 'tanh' is supported"),
    "recurrent": (lambda: lstm("a", recurrent_activation="hard_sigmoid"), "a has recurrent_activation='hard_sigmoid'"),
    "go_backwards": (lambda: lstm("a", go_backwards=True), "a has go_backwards=True"),
    "merge_mode": (lambda: L.Bidirectional(L.LSTM(H), merge_mode="ave", name="a"), "a has merge_mode='ave'"),
    "GRU": (lambda: L.GRU(H, name="a"), r"there is no LSTM layer; the layers are: .*a \(GRU\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_configuration_of_a_whole_model_is_held_to_ours(name, tmp_path):
    make, match = REFUSED[name]
    whole, _ = save_old(sequential(make()), tmp_path)
    with pytest.raises(ValueError, match=f"model.h5: {match}"):
        convert.from_keras(whole)


def test_layers_of_a_whole_model_that_do_not_follow_one_another(tmp_path):
    x = keras.Input((None, H))
    a, b = lstm("a"), lstm("b")
    whole, _ = save_old(drawn(keras.Model(x, a(x) + b(x))), tmp_path)
    with pytest.raises(ValueError, match=r"'b' reads input_layer.*, and not 'a'"):
        convert.from_keras(whole)
    same(convert.from_keras(whole, layers="b"), [b])
