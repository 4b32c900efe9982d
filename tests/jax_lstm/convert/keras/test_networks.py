"""keras_networks: every LSTM layer of a model or file by its name, or the reason why it is not read."""

from __future__ import annotations

import numpy as np
import pytest

from jax_lstm import convert
from tests.support.keras_files import h5py, save_old
from tests.support.keras_layers import QUIET, drawn, keras

pytestmark = QUIET
L = keras.layers
D, H = 3, 4


@keras.saving.register_keras_serializable("me")
class Own(L.Layer):
    """A layer of the user's own class with an LSTM in it."""

    def build(self, shape):
        self.inner = L.LSTM(H, return_sequences=True)
        self.inner.build(shape)
        super().build(shape)

    def call(self, x):
        return self.inner(x)


def sequence(kind, name, **options):
    return kind(H, return_sequences=True, name=name, **options)


@pytest.fixture(scope="module")
def model():
    x = keras.Input((5, D))
    y = L.Bidirectional(L.LSTM(H, return_sequences=True), name="ways")(x)
    y = L.Dense(H, name="dense")(y)
    y = sequence(L.LSTM, "plain")(y)
    y = sequence(L.LSTM, "hard", recurrent_activation="hard_sigmoid")(y)
    y = L.RNN([L.LSTMCell(H), L.LSTMCell(H)], return_sequences=True, name="stack")(y)
    y = sequence(L.GRU, "gru")(y)
    y = L.RNN(L.GRUCell(H), return_sequences=True, name="cells")(y)
    y = L.Reshape((1, 5, H))(y)
    y = L.TimeDistributed(L.LSTM(H, return_sequences=True), name="wrapped")(y)
    y = L.Reshape((5, H))(y)
    y = Own(name="own")(y)
    y = keras.Sequential([keras.Input((5, H)), L.LSTM(H, name="one"), L.Dense(2)], name="inner")(y)
    return drawn(keras.Model(x, y))


@pytest.fixture(scope="module")
def sources(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    model.save(folder / "m.keras")
    model.save_weights(folder / "m.weights.h5")
    whole, weights = save_old(model, folder)
    return {
        "model": model, "keras": folder / "m.keras", "weights.h5": folder / "m.weights.h5", "h5": whole, "hdf5": weights
    }  # fmt: skip


READ = ("ways", "plain", "stack", "inner/one")
WITH_CONFIGURATION = ("model", "keras", "h5")


def same(params, layer, bidirectional=False):
    wanted = convert.from_keras(layer.get_weights(), bidirectional=bidirectional)
    assert list(params) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(params[name], array)


@pytest.mark.parametrize("kind", ["model", "keras", "weights.h5", "h5", "hdf5"])
def test_every_lstm_layer_is_there(sources, model, kind):
    found = convert.keras_networks(sources[kind])
    for name in READ:
        layer = model
        for part in name.split("/"):
            layer = layer.get_layer(part)
        same(found[name], layer, name == "ways")
    if kind in WITH_CONFIGURATION:
        refused = {name: what for name, what in found.items() if isinstance(what, convert.KerasRefusal)}
        assert {name: what.is_lstm for name, what in refused.items()} == {
            "hard": True, "gru": False, "cells": False, "wrapped": True, "own": True
        }  # fmt: skip
        reasons = {name: what.reason for name, what in refused.items()}
        assert list(found) == [*READ[:2], "hard", *READ[2:], *(name for name in reasons if name != "hard")]
        for name, told in (
            ("hard", "hard has recurrent_activation='hard_sigmoid', where 'sigmoid' is supported."),
            ("gru", "gru is a GRU; supported: LSTM"),
            ("cells", "cells is a RNN of GRUCell; supported: LSTM"),
            ("wrapped", "wrapped is a TimeDistributed of LSTM; supported: LSTM"),
            ("own", "own is a "),
        ):
            assert reasons.pop(name).startswith(told)
        assert not reasons
    else:  # a file of weights does not say what a layer computes, but names layers inside of another layer
        inside = {"wrapped", "own"}
        assert {name.split("/")[0] if name.split("/")[0] in inside else name for name in found} == {
            *READ, *inside, "hard", "gru", "cells"
        }  # fmt: skip
        for name in ("gru", "cells"):
            assert "These look like a GRU's, which is no LSTM." in found[name].reason
            assert not found[name].is_lstm


def test_what_is_read_is_what_from_keras_reads(sources):
    for kind, source in sources.items():
        for name, params in convert.keras_networks(source).items():
            if isinstance(params, convert.KerasRefusal):
                continue
            wanted = convert.from_keras(source, layers=name)
            assert list(params) == list(wanted), (kind, name)
            for key, array in wanted.items():
                np.testing.assert_array_equal(params[key], array)


def test_one_layer_is_one_network():
    layer = L.LSTM(H, name="a")
    layer.build((None, None, D))
    found = convert.keras_networks(drawn(layer))
    assert list(found) == ["a"]
    same(found["a"], layer)
    assert convert.keras_networks(L.GRU(H, name="g")) == {
        "g": convert.KerasRefusal(found_reason(L.GRU(H, name="g")), is_lstm=False)
    }


def found_reason(layer):
    with pytest.raises(ValueError, match="supported") as caught:
        convert.from_keras(layer)
    return str(caught.value)


def test_dtype(sources):
    for params in convert.keras_networks(sources["h5"], dtype="float16").values():
        if not isinstance(params, convert.KerasRefusal):
            assert {str(a.dtype) for a in params.values()} == {"float16"}


@pytest.mark.parametrize("kind", ["h5", "hdf5", "weights.h5"])
def test_a_damaged_layer_leaves_the_others_readable(sources, model, kind, tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(sources[kind].read_bytes())
    with h5py.File(path, "r+") as file:
        names = []
        file.visit(names.append)
        kernel = next(n for n in names if n.endswith(("plain/lstm_cell/kernel", "layers/lstm/cell/vars/0")))
        del file[kernel]
        file[kernel] = h5py.SoftLink("/elsewhere")
    if kind == "weights.h5":  # layers are found by their arrays, so the layer of this array is unknown
        with pytest.raises(ValueError, match="as a SoftLink: it is no file of Keras's"):
            convert.keras_networks(path)
        return
    found = convert.keras_networks(path)
    assert "as a SoftLink: it is no file of Keras's" in found["plain"].reason
    same(found["ways"], model.get_layer("ways"), True)
    same(found["inner/one"], model.get_layer("inner").get_layer("one"))
    with pytest.raises(ValueError, match="as a SoftLink"):
        convert.from_keras(path, layers="plain")


def test_no_source_of_keras_s(tmp_path):
    for source in ([np.ones((3, 4))], {"kernel": np.ones((3, 4))}, None):
        with pytest.raises(ValueError, match="source must be a layer, a model or a path of Keras's; got"):
            convert.keras_networks(source)
    with pytest.raises(FileNotFoundError):
        convert.keras_networks(tmp_path / "none.h5")


def test_a_file_without_any(tmp_path):
    model = drawn(keras.Sequential([keras.Input((D,)), L.Dense(2)]))
    for path in save_old(model, tmp_path):
        assert convert.keras_networks(path) == {}
