"""ONNX nodes and models to convert, whose random values are all different."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm
from jax_lstm import convert
from tests.support.requirements import need

onnx = need("onnx")
helper = onnx.helper
T, B, D, H = 6, 4, 3, 5
X = np.random.default_rng(1).normal(size=(T, B, D)).astype("f")
ROUNDING = 60 * 2.0**-24  # float32 against float64, at values under 1


def arrays(dirs=1, inputs=D, hidden=H, seed=0):
    rng = np.random.default_rng([dirs, seed])
    shapes = {"W": (dirs, 4 * hidden, inputs), "R": (dirs, 4 * hidden, hidden), "B": (dirs, 8 * hidden)}
    shapes |= {"initial_h": (dirs, B, hidden), "initial_c": (dirs, B, hidden)}
    return {name: rng.normal(scale=0.5, size=shape) for name, shape in shapes.items()}


def node_of(**changed):
    return arrays() | {"sequence_lens": np.array([6, 1, 4, 2], np.int32)} | changed


def built(node, opset=17, layout=None, kind="LSTM", more=(), first=(), **attributes):
    """Return a model with one node: constants are initializers, and x is its input."""
    given = {name: a for name, a in node.items() if name not in ("direction",)}
    names = [name if name in given else "" for name in ("W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")]
    while names and not names[-1]:
        names.pop()
    if layout is not None:
        attributes["layout"] = layout
    dirs = given["W"].shape[0]
    attributes = {"hidden_size": H, "direction": "bidirectional" if dirs == 2 else "forward"} | attributes
    lstm = helper.make_node(kind, ["x", *names], ["Y", "Y_h", "Y_c"], name="the-lstm", **attributes)
    tensors = [onnx.numpy_helper.from_array(a, name) for name, a in given.items()]
    value = lambda name, *shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    outputs = [value("Y", *[None] * 4), value("Y_h", *[None] * 3), value("Y_c", *[None] * 3)]
    graph = helper.make_graph([*first, lstm, *more], "g", [value("x", None, None, D)], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def narrow(node):
    return {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in node.items()}


def two_layers(between=()):
    """Return the params and the model of two bidirectional nodes, with nodes of these kinds between them."""
    params = jax_lstm.init_lstm(jax.random.key(0), D, H, 2, bidirectional=True, dtype=jnp.float32)
    model = convert.to_onnx(params, time_major=True)
    for kind in between:
        reshape = next(node for node in model.graph.node if node.output[0] == "y_l0")
        second = next(node for node in model.graph.node if node.name == "lstm_l1")
        index = list(model.graph.node).index(second)
        model.graph.node.insert(index, helper.make_node(kind, [reshape.output[0]], ["between"]))
        second.input[0] = "between"
    return params, model


def without(model, *names):
    """Return the model without these initializers."""
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def value(name, *shape, kind=onnx.TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def lstm(name, dirs=1, inputs=D, hidden=H, seed=0, x="x", y="y", weights="initializer", states=(), **attributes):
    """Return a node with its own weights: (its arrays, nodes that end in it, initializers).

    ``weights`` says how the graph stores its weights: as "initializer" or "Constant". ``states`` are values of the
    graph.
    """
    given = {n: a.astype("f") for n, a in arrays(dirs, inputs, hidden, seed).items() if n in "WRB"}
    tensors = [onnx.numpy_helper.from_array(a, f"{name}.{n}") for n, a in given.items()]
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors]
    outputs = [y, f"{name}.h", f"{name}.c"]
    kind = {"hidden_size": hidden, "direction": "bidirectional" if dirs == 2 else "forward"}
    inputs_of = [x, *(tensor.name for tensor in tensors), *(["", *states] if states else [])]
    node = helper.make_node("LSTM", inputs_of, outputs, name=name, **kind | attributes)
    return (given, [node], tensors) if weights == "initializer" else (given, [*constants, node], [])


def model(nodes, inputs, outputs, tensors=(), opset=17, **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def body(nodes, outputs, tensors=(), inputs=()):
    return helper.make_graph(nodes, "body", list(inputs), list(outputs), list(tensors))


def run(made, outputs, **inputs):
    runtime = need("onnxruntime")
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, inputs)


def agrees(read, theirs, x=X, state=None):
    """Check that a network's outputs agree with ``theirs``, Y [T, 1, B, H]."""
    wide = {name: a.astype(jnp.float64) for name, a in read.params.items()}
    ours, _ = jax.jit(lambda p, x, s: jax_lstm.lstm(p, x, s, time_major=True))(wide, x.astype(np.float64), state)
    np.testing.assert_allclose(ours, theirs[:, 0], rtol=0, atol=ROUNDING)
