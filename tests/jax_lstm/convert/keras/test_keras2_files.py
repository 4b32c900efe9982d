"""HDF5 files as Keras 2 and tf.keras wrote them, built by hand (see tests/support/keras_files.py).

Keras 3 loads the same file into its own layers, whose outputs are compared.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jax_lstm
from jax_lstm import convert
from tests.support.keras_files import (
    bidirectional_config,
    drawn_cell,
    h5py,
    lstm_config,
    named,
    sequential,
    write_model,
    write_weights,
)
from tests.support.keras_layers import QUIET, keras

pytestmark = QUIET
B, T, D, H = 2, 5, 3, 4
LOW, HIGH, TOP = drawn_cell(D, H, 1), drawn_cell(H, H, 2), drawn_cell(H, H, 3)


def same(params, *cells, bidirectional=False):
    wanted = convert.from_keras([a for cell in cells for a in cell], bidirectional=bidirectional)
    assert list(params) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(params[name], array)


def same_outputs(path, params, *layers):
    """Load the file into Keras 3's layers, and compare the outputs. Both are float32 and of order 1."""
    from keras.src.legacy.saving.legacy_h5_format import load_weights_from_hdf5_group

    model = keras.Sequential([keras.Input((None, D)), *layers])
    with h5py.File(path, "r") as file:
        load_weights_from_hdf5_group(file, model)
    x = np.random.default_rng(1).normal(size=(B, T, D)).astype("float32")
    np.testing.assert_allclose(jax.jit(jax_lstm.lstm)(params, x)[0], model(x), rtol=0, atol=5e-6)


def lstm():
    return keras.layers.LSTM(H, return_sequences=True)


SCOPES = {  # the weights of the layers lstm_1 and lstm_2
    "Keras 2.0 to 2.3": ("lstm_1", "lstm_2"),
    "tf.keras": ("lstm_1/lstm_cell", "lstm_2/lstm_cell_1"),
    "a model loaded into a graph that had one": ("lstm_1_1", "lstm_2_1"),
    "a model that was not built when it was made": ("sequential_1/lstm_1/lstm_cell", "sequential_1/lstm_2/lstm_cell"),
}


def two_layers(scopes):
    return {"lstm_1": named(scopes[0], LOW), "dropout": {}, "lstm_2": named(scopes[1], HIGH)}


@pytest.mark.parametrize("name", SCOPES)
def test_names_of_weights(name, tmp_path):
    layers = two_layers(SCOPES[name])
    nodes = [lstm_config("lstm_1"), {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.5}}]
    nodes.append(lstm_config("lstm_2"))
    whole, weights = (
        write_model(tmp_path / "m.h5", sequential(*nodes), layers),
        write_weights(tmp_path / "w.h5", layers),
    )
    for path in (whole, weights):
        same(convert.from_keras(path), LOW, HIGH)
        same(convert.from_keras(path, layers="lstm_2"), HIGH)
        assert list(convert.keras_networks(path)) == ["lstm_1", "lstm_2"]
    same_outputs(weights, convert.from_keras(whole), lstm(), lstm())


@pytest.mark.parametrize("version", ["2.0.6", "2.2.4-tf", "2.15.0", "3.0.0"])
def test_a_sequential_whose_configuration_is_a_list(version, tmp_path):
    """Keras wrote this until 2.2.2. Keras 3 does not read it."""
    config = {"class_name": "Sequential", "config": [lstm_config("lstm_1"), lstm_config("lstm_2")]}
    path = write_model(tmp_path / "m.h5", config, two_layers(SCOPES["Keras 2.0 to 2.3"]), version)
    same(convert.from_keras(path), LOW, HIGH)


WAYS = {
    "Keras 2.0 to 2.3": "ways/{}_lstm_1",
    "without the layer's name": "{}_lstm_1",
    "tf.keras": "ways/{}_lstm_1/lstm_cell",
    "in a model": "sequential_1/ways/{}_lstm_1/lstm_cell_4",
    "a name that is not the layer's": "model/time_distributed_1/{}_lstm/lstm_cell",
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("written", [True, False], ids=["backward layer written", "left out"])
def test_bidirectional(name, written, tmp_path):
    forward, backward = drawn_cell(D, H, 1), drawn_cell(D, H, 2)
    weights = named(WAYS[name].format("forward"), forward) | named(WAYS[name].format("backward"), backward)
    more = {"backward_layer": lstm_config("backward_lstm_1", go_backwards=True)} if written else {}
    config = bidirectional_config("ways", lstm_config("lstm_1"), **more)
    whole = write_model(tmp_path / "m.h5", sequential(config), {"ways": weights})
    alone = write_weights(tmp_path / "w.h5", {"ways": weights})
    for path in (whole, alone):
        same(convert.from_keras(path), forward, backward, bidirectional=True)
        assert list(convert.keras_networks(path)) == ["ways"]
    same_outputs(alone, convert.from_keras(whole), keras.layers.Bidirectional(lstm()))
    if not written:
        config = bidirectional_config("ways", lstm_config("lstm_1", go_backwards=True))
        path = write_model(tmp_path / "m.h5", sequential(config), {"ways": weights})
        with pytest.raises(ValueError, match="ways, forward_layer, has go_backwards=True"):
            convert.from_keras(path)


def layer(kind, name, *calls, **options):
    """Return a layer of a functional model. Each of its calls reads the named layers."""
    nodes = [[[below, 0, 0, {}] for below in call] for call in calls]
    return {"class_name": kind, "name": name, "config": {**options, "name": name}, "inbound_nodes": nodes}


def functional(*layers, kind="Functional"):
    config = {"name": "model_1", "layers": list(layers), "input_layers": [["x", 0, 0]], "output_layers": [["b", 0, 0]]}
    return {"class_name": kind, "config": config}


X = layer("InputLayer", "x", batch_input_shape=[None, None, H], dtype="float32")


def cell(name, *calls):
    return lstm_config(name) | layer("LSTM", name, *calls) | {"config": lstm_config(name)["config"]}


def test_calls_in_other_forms(tmp_path):
    """A TFOpLambda's call is a tensor without a list around it. A layer that takes a dict has tensors by name."""
    layers = {"x": {}, "add": {}, "both": {}, "a": named("a/lstm_cell", HIGH), "b": named("b/lstm_cell", TOP)}
    add = layer("TFOpLambda", "add") | {"inbound_nodes": [["x", 0, 0, {"y": 2.0}]]}
    both = layer("Own", "both") | {"inbound_nodes": [{"left": ["a", 0, 0], "right": ["x", 0, 0]}]}
    for b, match in ((cell("b", ["add"]), "'b' reads add, and not 'a'"), (cell("b", ["both"]), "'b' reads both")):
        path = write_model(tmp_path / "m.h5", functional(X, add, both, cell("a", ["add"]), b), layers)
        with pytest.raises(ValueError, match=match):
            convert.from_keras(path)
        same(convert.from_keras(path, layers="b"), TOP)
    by_name = cell("b") | {"inbound_nodes": [{"sequences": ["a", 0, 0]}]}
    path = write_model(tmp_path / "m.h5", functional(X, add, both, cell("a", ["add"]), by_name), layers)
    with pytest.raises(ValueError, match="'b' reads several tensors, and not 'a'"):
        convert.from_keras(path)


@pytest.mark.parametrize("kind", ["Functional", "Model"])
def test_which_layer_reads_which_in_a_functional_model(kind, tmp_path):
    """ "Model" is what Keras 2 calls a functional model."""
    layers = {"x": {}, "a": named("a/lstm_cell", HIGH), "drop": {}, "b": named("b/lstm_cell", TOP)}
    drop = layer("Dropout", "drop", ["a"], rate=0.5)
    stack = write_model(
        tmp_path / "m.h5", functional(X, cell("a", ["x"]), drop, cell("b", ["drop"]), kind=kind), layers
    )
    same(convert.from_keras(stack), HIGH, TOP)
    for reads, match in (
        ([["x"]], "'b' reads x, and not 'a'"),
        ([["a", "x"]], "'b' reads several tensors, and not 'a'"),
        ([["a"], ["a"]], "'b' reads several layers in turn, and not 'a'"),
    ):
        config = functional(X, cell("a", ["x"]), drop, cell("b", *reads), kind=kind)
        path = write_model(tmp_path / "other.h5", config, layers)
        with pytest.raises(ValueError, match=match):
            convert.from_keras(path)
        same(convert.from_keras(path, layers="b"), TOP)


def test_models_within_models(tmp_path):
    """The weights lie in one group and have names without the model's: only the layer's name identifies them."""
    inner = [lstm_config("one"), lstm_config("two")]
    weights = named("one/lstm_cell", LOW) | named("two/lstm_cell_1", HIGH) | {"dense/kernel:0": np.ones((H, 2), "f4")}
    for model in (
        {"class_name": "Sequential", "config": {"name": "inner", "layers": inner}},
        {"class_name": "Sequential", "config": inner, "name": "inner"},  # until Keras 2.2.2, in a functional model
    ):
        low = named("lstm_1/lstm_cell", drawn_cell(D, D, 4))
        layers = {"lstm_1": low, "inner": weights}
        whole = write_model(tmp_path / "m.h5", sequential(lstm_config("lstm_1"), model), layers)
        for path in (whole, write_weights(tmp_path / "w.h5", layers)):
            same(convert.from_keras(path, layers="inner/one"), LOW)
            same(convert.from_keras(path, layers="inner/two"), HIGH)
            assert list(convert.keras_networks(path)) == ["lstm_1", "inner/one", "inner/two"]


def test_a_model_within_the_model_whose_weights_have_other_names(tmp_path):
    """A model that was loaded into a graph with another model has such names. Keras uses the order of all weights."""
    inner = {
        "class_name": "Sequential",
        "config": {"name": "inner", "layers": [lstm_config("one"), lstm_config("two")]},
    }
    weights = named("one_1/lstm_cell", LOW) | named("two_1/lstm_cell", HIGH)
    path = write_model(tmp_path / "m.h5", sequential(inner), {"inner": weights})
    told = r"the names of the weights do not say which are those of 'inner/one': one_1/lstm_cell, two_1/lstm_cell\."
    with pytest.raises(ValueError, match=told):
        convert.from_keras(path)
    assert "do not say" in convert.keras_networks(path)["inner/two"].reason


def test_cells_in_an_rnn(tmp_path):
    cells = [{"class_name": "LSTMCell", "config": lstm_config(name)["config"]} for name in ("lstm_cell", "lstm_cell_1")]
    stack = {"class_name": "StackedRNNCells", "config": {"name": "stacked_rnn_cells", "cells": cells}}
    options = {"return_sequences": True, "go_backwards": False}
    for node, scopes in (
        (stack, ("rnn/stacked_rnn_cells/lstm_cell", "rnn/stacked_rnn_cells/lstm_cell_1")),
        (stack, ("rnn/stacked_rnn_cells_7/lstm_cell", "rnn/stacked_rnn_cells_7/lstm_cell_1")),
        (stack, ("rnn/lstm_cell", "rnn/lstm_cell_1")),
        (cells[0], ("rnn/lstm_cell",)),
        (cells[0], ("rnn",)),
    ):
        weights = {
            name: a for scope, w in zip(scopes, (LOW, HIGH), strict=False) for name, a in named(scope, w).items()
        }
        config = sequential({"class_name": "RNN", "config": {"name": "rnn", "cell": node, **options}})
        whole = write_model(tmp_path / "m.h5", config, {"rnn": weights})
        for path in (whole, write_weights(tmp_path / "w.h5", {"rnn": weights})):
            same(convert.from_keras(path), *(LOW, HIGH)[: len(scopes)])
            assert list(convert.keras_networks(path)) == ["rnn"]
    tied = named("rnn", LOW) | {
        f"rnn/{name}_1:0": a for name, a in zip(("kernel", "recurrent_kernel"), HIGH, strict=False)
    }
    with pytest.raises(ValueError, match="rnn"):
        convert.from_keras(write_weights(tmp_path / "w.h5", {"rnn": tied}))


def test_stacks_of_cells_in_both_directions(tmp_path):
    """No case is a bidirectional LSTM. The upper cells see only their own direction, or the stacks are unequal."""
    forward = named("ways/forward_rnn/lstm_cell", LOW) | named("ways/forward_rnn/lstm_cell_1", HIGH)
    one = named("ways/backward_rnn/lstm_cell", LOW)
    two = one | named("ways/backward_rnn/lstm_cell_1", HIGH)
    found = convert.keras_networks(write_weights(tmp_path / "w.h5", {"ways": forward | two}))
    assert {name: what.reason for name, what in found.items()} == {
        "ways": "'ways' has a stack of cells in each direction, whose layers do not see the other direction."
    }
    found = convert.keras_networks(write_weights(tmp_path / "w.h5", {"ways": forward | one}))
    assert list(found) == ["ways/forward_rnn", "ways/backward_rnn"]
    same(found["ways/forward_rnn"], LOW, HIGH)


def test_no_layer_is_lost_to_another_of_its_name(tmp_path):
    weights = named("g/one/lstm_cell", LOW) | named("x/g/one/lstm_cell", HIGH)
    found = convert.keras_networks(write_weights(tmp_path / "w.h5", {"g": weights}))
    assert list(found) == ["g/g/one", "g/x/g/one"]
    same(found["g/x/g/one"], HIGH)


def dense_config(name):
    return {"class_name": "Dense", "config": {"name": name, "units": 2}}


def wrapper(inner, kind="TimeDistributed"):
    return {"class_name": kind, "config": {"name": "wrapped", "layer": inner}}


def test_wrappers_around_an_lstm(tmp_path):
    """A whole model says that the LSTM runs within another layer. A file of weights does not say it."""
    within = {"class_name": "Sequential", "config": {"name": "inner", "layers": [lstm_config("lstm")]}}
    layers = {"a": named("a/lstm_cell", LOW), "wrapped": named("wrapped/lstm_cell", HIGH)}
    for inner in (lstm_config("lstm"), bidirectional_config("ways", lstm_config("lstm")), within):
        path = write_model(tmp_path / "m.h5", sequential(lstm_config("a"), wrapper(inner)), layers)
        same(convert.from_keras(path), LOW)
        kind = inner["class_name"]
        assert (
            f"wrapped is a TimeDistributed of {kind}; supported: LSTM" in convert.keras_networks(path)["wrapped"].reason
        )
        with pytest.raises(ValueError, match="'wrapped' is a TimeDistributed, no LSTM"):
            convert.from_keras(path, layers="wrapped")
    same(convert.from_keras(write_weights(tmp_path / "w.h5", layers)), LOW, HIGH)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='hard_sigmoid', where 'sigmoid' is supported"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"activation": {"class_name": "me>swish", "config": "swish"}}, "activation=a function that Keras has no name"),
        ({"go_backwards": True}, "go_backwards=True"),
        ({"use_bias": False}, "use_bias=False and 3 weights, which do not agree"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(options, match, tmp_path):
    path = write_model(tmp_path / "m.h5", sequential(lstm_config("a", **options)), {"a": named("a", LOW)})
    with pytest.raises(ValueError, match=f"m.h5: a has {match}"):
        convert.from_keras(path)
    assert convert.keras_networks(path)["a"].reason.startswith(f"a has {match.partition(',')[0]}")


def test_options_that_do_not_matter(tmp_path):
    options = {"implementation": 1, "time_major": False, "stateful": True, "dropout": 0.5, "return_state": True}
    path = write_model(tmp_path / "m.h5", sequential(lstm_config("a", **options)), {"a": named("a", LOW)})
    same(convert.from_keras(path), LOW)


def test_classes_of_the_user_s(tmp_path):
    """A registered class has its package before its name. Other classes have bare names, as Keras's own do."""
    nodes = [lstm_config("a"), lstm_config("b") | {"class_name": "me>LSTM"}, lstm_config("c") | {"class_name": "Own"}]
    layers = {"a": named("a", LOW), "b": named("b", HIGH), "c": named("c", TOP)}
    path = write_model(tmp_path / "m.h5", sequential(*nodes), layers)
    same(convert.from_keras(path), LOW)
    found = convert.keras_networks(path)
    assert "b is a me>LSTM; supported" in found["b"].reason
    assert "c is a Own, with weights like an LSTM's: its code says what it computes" in found["c"].reason
    nodes[0] |= {"module": "keras.layers", "registered_name": None}  # since Keras 2.12
    nodes[1] |= {"module": "mine", "class_name": "LSTM", "registered_name": "me>LSTM"}
    found = convert.keras_networks(write_model(tmp_path / "m.h5", sequential(*nodes), layers))
    same(found["a"], LOW)
    assert "b is a mine.LSTM; supported" in found["b"].reason
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [*nodes, dense_config("d")]}}
    weights = {name: a for layer in layers.values() for name, a in layer.items()}
    weights["d/kernel:0"] = np.ones((H, 2))
    found = convert.keras_networks(write_model(tmp_path / "m.h5", sequential(inner), {"inner": weights}))
    assert list(found) == ["inner/a", "inner/b", "inner/c"]
    assert "inner/c is a Own, with weights like an LSTM's" in found["inner/c"].reason


@pytest.mark.parametrize("version", [None, "1", "1.2.2"])
def test_keras_1_is_refused(version, tmp_path):
    """Keras 1 had twelve arrays per cell. A file without a version is taken for Keras 1's, as Keras 2 does."""
    weights = {f"lstm_1_{kind}_{gate}": np.ones((D, H)) for gate in "icfo" for kind in "WU"}
    layers = {"lstm_1": weights}
    whole = write_model(tmp_path / "m.h5", sequential(lstm_config("lstm_1")), layers, version)
    for path in (whole, write_weights(tmp_path / "w.h5", layers, version)):
        with pytest.raises(ValueError, match=rf"{path.name}: was written by Keras 1, .* keras_version is {version!r}"):
            convert.from_keras(path)


def test_bare_weights_of_what_is_no_lstm(tmp_path):
    gru = named("gru", [np.ones((D, 3 * H)), np.ones((H, 3 * H)), np.ones(3 * H)])
    peephole = named("p/peephole_lstm_cell", LOW) | {"p/peephole_lstm_cell/input_gate_peephole_weights:0": np.ones(H)}
    dense = {"dense/kernel:0": np.ones((H, 2)), "dense/bias:0": np.ones(2)}
    layers = {"gru": gru, "p": peephole, "dense": dense, "a": named("a", LOW)}
    path = write_weights(tmp_path / "w.h5", layers)
    same(convert.from_keras(path), LOW)
    found = convert.keras_networks(path)
    assert list(found) == ["a", "gru", "p"]
    assert "gru must be Keras's LSTM" in found["gru"].reason
    assert "These look like a GRU's, which is no LSTM." in found["gru"].reason
    assert (found["gru"].is_lstm, found["p"].is_lstm) == (False, True)
    assert found["p"].reason == "p has weights that no LSTM has: p/peephole_lstm_cell/input_gate_peephole_weights:0."
    with pytest.raises(ValueError, match="'p' is a group of other weights, no LSTM; the LSTM layers are: 'a'"):
        convert.from_keras(path, layers="p")
    with pytest.raises(ValueError, match=r"there is no LSTM layer; the layers are: gru \(group of other weights\)\."):
        convert.from_keras(write_weights(tmp_path / "w.h5", {"gru": gru}))


def test_layers_whose_names_have_slashes(tmp_path):
    layers = {"block/lstm": named("block/lstm/lstm_cell", LOW), "block/top": named("block/top/lstm_cell", HIGH)}
    whole = write_model(tmp_path / "m.h5", sequential(lstm_config("block/lstm"), lstm_config("block/top")), layers)
    for path in (whole, write_weights(tmp_path / "w.h5", layers)):
        same(convert.from_keras(path), LOW, HIGH)


def test_two_cells_that_a_user_named_forward_and_backward(tmp_path):
    """If each direction has its own group, they are two layers."""
    layers = {name: named(f"{name}/lstm_cell", w) for name, w in (("forward_a", LOW), ("backward_a", HIGH))}
    whole = write_model(tmp_path / "m.h5", sequential(lstm_config("forward_a"), lstm_config("backward_a")), layers)
    for path in (whole, write_weights(tmp_path / "w.h5", layers)):
        same(convert.from_keras(path), LOW, HIGH)


def test_big_endian_numbers(tmp_path):
    weights = {name: a.astype(">f4") for name, a in named("a", LOW).items()}
    same(convert.from_keras(write_weights(tmp_path / "w.h5", {"a": weights})), LOW)


def test_a_whole_model_without_its_weights(tmp_path):
    path = write_model(tmp_path / "m.h5", sequential(lstm_config("a"), lstm_config("b")), {"a": named("a", LOW)})
    with h5py.File(path, "r+") as file:
        file["model_weights"].create_group("b").attrs["weight_names"] = []
    with pytest.raises(ValueError, match="b has no weights yet"):
        convert.from_keras(path)
    found = convert.keras_networks(path)
    same(found["a"], LOW)
    assert found["b"].reason.startswith("b has no weights yet")
