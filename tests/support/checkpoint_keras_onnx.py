"""Keras files and ONNX models, for the table of kinds in tests/support/checkpoint_kinds.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm
from jax_lstm import convert
from tests.support.checkpoint_example import Example, Network


def keras_model(**options: Any) -> Any:
    """Return both directions and a layer above them. All compute in float32, because Keras's own tanh does."""
    from tests.support.keras_layers import drawn, keras

    layers = keras.layers
    parts = [
        keras.Input((None, 3)),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="ways"),
        layers.LSTM(4, return_sequences=True, name="top", **options),
    ]
    return drawn(keras.Sequential(parts))


def of_keras(model: Any) -> dict[str, Network]:
    networks = {}
    for name, both in (("ways", True), ("top", False)):
        layer = model.get_layer(name)
        params = convert.from_keras(layer.get_weights(), bidirectional=both)
        run = jax.jit(lambda x, layer=layer: layer(x))
        networks[name] = Network({entry: np.asarray(a) for entry, a in params.items()}, run)
    return networks


def keras_archive(folder: Path) -> Example:
    from tests.support.keras_layers import keras

    keras_model().save(folder / "model.keras")
    return Example(folder / "model.keras", of_keras(keras.saving.load_model(folder / "model.keras")))


def keras_weights(folder: Path) -> Example:
    from tests.support.keras_layers import keras

    model = keras_model()
    model.save_weights(folder / "model.weights.h5")
    loaded = keras.models.clone_model(model)
    loaded.load_weights(folder / "model.weights.h5")
    return Example(folder / "model.weights.h5", of_keras(loaded))


def keras_old(folder: Path, number: int) -> Example:
    """Write a file as Keras 2 wrote it: number 0 is a whole model, and 1 has only weights."""
    from tests.support.keras_files import load_old, save_old

    model = keras_model()
    files = save_old(model, folder)
    return Example(files[number], of_keras(load_old(files, model)[number]))


def cudnn_lstm(folder: Path) -> Example:
    """Write Keras 2's CuDNNLSTM, which does not run here. Keras's LSTM runs the weights as Keras 2 converts them."""
    from tests.support.keras_files import cudnn_config, drawn_cell, named, sequential, write_model
    from tests.support.keras_layers import keras

    kernel, recurrent, bias = stored = drawn_cell(3, 5, bias=8)
    write_model(folder / "model.h5", sequential(cudnn_config("fast")), {"fast": named("fast", stored)})
    kernels = [[gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(a, 4)] for a in (kernel, recurrent)]
    biases = np.split(bias, 2)
    layer = keras.layers.LSTM(5, return_sequences=True)
    layer.build((None, None, 3))
    layer.set_weights([*map(np.hstack, kernels), np.sum(biases, axis=0)])
    params = {"weight_ih_l0": kernels[0], "weight_hh_l0": kernels[1]}
    params = {name: np.hstack(gates).T for name, gates in params.items()}
    params |= {"bias_ih_l0": biases[0], "bias_hh_l0": biases[1]}
    return Example(folder / "model.h5", {"fast": Network(params, jax.jit(lambda x: layer(x)))})


def keras_other_activation(folder: Path) -> Example:
    keras_model(recurrent_activation="hard_sigmoid").save(folder / "model.keras")
    return Example(
        folder / "model.keras", {}, "top has recurrent_activation='hard_sigmoid', where 'sigmoid' is supported"
    )


def drawn_params(seed: int, inputs: int, hidden: int) -> dict[str, np.ndarray]:
    params = jax_lstm.init_lstm(jax.random.key(seed), inputs, hidden, dtype=jnp.float32)
    return {name: np.asarray(a) for name, a in params.items()}


def session(path: Path) -> Callable[..., list[np.ndarray]]:
    import onnxruntime

    made = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda outputs, **given: made.run(outputs, given)


def onnx_model(folder: Path) -> Example:
    params = drawn_params(0, 3, 5)
    convert.to_onnx(params, folder / "model.onnx")
    run = session(folder / "model.onnx")
    return Example(folder / "model.onnx", {"lstm_l0": Network(params, lambda x: run(["y"], x=x)[0])})


def onnx_branches(folder: Path) -> Example:
    """Write one network per sampling rate, as models for voice activity have."""
    from tests.support.onnx_models import helper, onnx

    params = {"then_branch": drawn_params(1, 3, 5), "else_branch": drawn_params(2, 3, 4)}
    graphs = {branch: convert.to_onnx(given).graph for branch, given in params.items()}
    for graph in graphs.values():
        del graph.input[:]  # a body reads x of the graph around it
    tensor = helper.make_tensor_value_info
    rate = helper.make_node("If", ["is_16k"], ["y", "h_n", "c_n"], name="rate", **graphs)
    given = [tensor("x", onnx.TensorProto.FLOAT, ["batch", "time", 3]), tensor("is_16k", onnx.TensorProto.BOOL, [])]
    wanted = [tensor("y", onnx.TensorProto.FLOAT, ["batch", "time", None])]
    graph = helper.make_graph([rate], "voice activity", given, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    run = session(folder / "model.onnx")
    networks = {
        f"rate.{branch}.lstm_l0": Network(
            params[branch], lambda x, is_16k=branch == "then_branch": run(["y"], x=x, is_16k=np.array(is_16k))[0]
        )
        for branch in params
    }
    return Example(folder / "model.onnx", networks)


def onnx_refused(folder: Path) -> Example:
    from tests.support.onnx_models import helper

    model = convert.to_onnx(drawn_params(0, 3, 5))
    lstm = next(node for node in model.graph.node if node.op_type == "LSTM")
    lstm.attribute.append(helper.make_attribute("clip", 3.0))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return Example(folder / "model.onnx", {}, "LSTM node 'lstm_l0' has clip=3.0, which is not supported")
