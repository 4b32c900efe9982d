"""Keras's old HDF5 files for tests: written by Keras 3's own writer, or by hand as Keras 2 wrote them.

Keras 2 does not run here. Its files are built from their documented structure: ``save_model`` and
``save_weights_to_hdf5_group`` of keras/engine/saving.py (Keras 2.2), the same of
tensorflow/python/keras/saving/hdf5_format.py (tf.keras), and the ``get_config`` of their layers.
"""

from __future__ import annotations

import json

import numpy as np

from tests.support.requirements import need

h5py = need("h5py")
NAMES = ("kernel", "recurrent_kernel", "bias")


def save_old(model, folder):
    """Write both kinds of files with Keras 3: a whole model, and only weights."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    model.save(folder / "model.h5")
    with h5py.File(folder / "weights.hdf5", "w") as file:
        save_weights_to_hdf5_group(file, model)
    return folder / "model.h5", folder / "weights.hdf5"


def load_old(files, model):
    """Return the models that Keras 3 loads from both files, the second with ``model``'s configuration."""
    from keras.src.legacy.saving.legacy_h5_format import load_weights_from_hdf5_group

    from tests.support.keras_layers import keras

    whole = keras.saving.load_model(files[0], compile=False)
    filled = keras.models.clone_model(model)
    with h5py.File(files[1], "r") as file:
        load_weights_from_hdf5_group(file, filled)
    return whole, filled


def write_layers(group, layers, version="2.2.4"):
    """Write a group of layers as Keras 2 does. ``layers`` has the arrays of each, by their names with ":0"."""
    group.attrs["layer_names"] = [name.encode() for name in layers]
    group.attrs["backend"] = b"tensorflow"
    if version:
        group.attrs["keras_version"] = version.encode()
    for name, weights in layers.items():
        below = group.create_group(name)
        below.attrs["weight_names"] = [weight.encode() for weight in weights]
        for weight, value in weights.items():
            below.create_dataset(weight, data=value)


def write_weights(path, layers, version="2.2.4"):
    with h5py.File(path, "w") as file:
        write_layers(file, layers, version)
    return path


def write_model(path, config, layers, version="2.2.4"):
    """Write a whole model as Keras 2 does."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["backend"] = b"tensorflow"
        if version:
            file.attrs["keras_version"] = version.encode()
        write_layers(file.create_group("model_weights"), layers, version)
    return path


def named(scope, arrays):
    """Return a cell's arrays by Keras 2's names in a scope."""
    return {f"{scope}/{name}:0": a for name, a in zip(NAMES, arrays, strict=False)}


def sequential(*layers):
    """Return a Sequential's configuration since Keras 2.2.3."""
    return {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": list(layers)}}


def lstm_config(name, **options):
    """Return Keras 2's configuration of an LSTM, with only the entries that the reader uses."""
    config = {
        "name": name, "trainable": True, "return_sequences": True, "return_state": False, "go_backwards": False,
        "stateful": False, "unroll": False, "units": 4, "activation": "tanh", "recurrent_activation": "sigmoid",
        "use_bias": True, "unit_forget_bias": True, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
    }  # fmt: skip
    return {"class_name": "LSTM", "config": {**config, **options}}


def cudnn_config(name, **options):
    """Return Keras 2's configuration of a CuDNNLSTM, which has no activations and no use_bias."""
    config = {
        "name": name, "trainable": True, "return_sequences": True, "return_state": False, "go_backwards": False,
        "stateful": False, "units": 4, "unit_forget_bias": True,
    }  # fmt: skip
    return {"class_name": "CuDNNLSTM", "config": {**config, **options}}


def bidirectional_config(name, layer, **options):
    config = {"name": name, "trainable": True, "layer": layer, "merge_mode": "concat"}
    return {"class_name": "Bidirectional", "config": {**config, **options}}


def drawn_cell(inputs, hidden, seed=0, dtype="float32", bias=4):
    """Return kernel, recurrent_kernel and a bias of ``bias`` times H numbers, all of them different."""
    rng = np.random.default_rng(seed)
    shapes = [(inputs, 4 * hidden), (hidden, 4 * hidden), (bias * hidden,)]
    return [rng.normal(size=shape, scale=0.5).astype(dtype) for shape in shapes]


def put_link(group, path, link):
    """Replace the object at ``path`` by a link."""
    del group[path]
    group[path] = link


def put_external(group, path, shape):
    """Replace the object at ``path`` by an array whose numbers are in another file."""
    del group[path]
    group.create_dataset(path, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def put_virtual(group, path, shape):
    """Replace the object at ``path`` by an array that is a view of an array in another file."""
    del group[path]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", shape)
    group.create_virtual_dataset(path, layout)
