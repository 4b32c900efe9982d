"""An LSTM as an ONNX model of one node per layer, which ONNX Runtime runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from jax_lstm._src.files import whole
from jax_lstm.convert.arrays import Array, concrete
from jax_lstm.convert.layers import LayerWeights, split_layers
from jax_lstm.convert.onnx.graphs import Proto
from jax_lstm.convert.onnx.node_data import write_layer
from jax_lstm.convert.onnx.operators import require_onnx

OPSET, IR_VERSION = 17, 8  # runtimes of 2022 read these
Shape: TypeAlias = list[str | int]  # sizes, or names of sizes that are free


def to_onnx(
    params: Mapping[str, Array],
    path: str | os.PathLike[str] | None = None,
    *,
    states: bool = False,
    lengths: bool = False,
    time_major: bool = False,
) -> Proto:
    """Write an LSTM as an ONNX model; the inverse of `jax_lstm.convert.from_onnx`.

    The conversion is lossless. The model's inputs are `x` `[batch, time, D]` and what the arguments ask for. Its
    outputs are `y` `[batch, time, dirs * H]` and `h_n`, `c_n` `[R, batch, H]`, rows in torch's order. The sizes batch
    and time are free. The dtype is that of the weights. The opset is 17. ONNX Runtime's CPU kernel computes in
    `float32` only: give it `float32` weights.

    Args:
      params: a torch.nn.LSTM state dict without projection, or a torch.nn.LSTMCell's, which becomes one layer.
      path: a file to which the model is also written, whole or not at all. An existing file is replaced.
      states: whether initial states are inputs, `h0` and `c0` `[R, batch, H]`. Otherwise they are zero.
      lengths: whether the length of each row is an input, `lengths` int32 `[batch]`. Outputs after it are zero.
      time_major: whether x and y have time as their first axis.

    Returns:
      The onnx.ModelProto.

    Raises:
      ImportError: onnx is not installed (extra "files").
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, it has a projection, or its arrays differ in dtype.
      OSError: writing failed.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
      >>> model = jax_lstm.convert.to_onnx(params, states=True)
      >>> [value.name for value in model.graph.input], [value.name for value in model.graph.output]
      (['x', 'h0', 'c0'], ['y', 'h_n', 'c_n'])
    """
    onnx = require_onnx()
    layers: list[LayerWeights] = [
        tuple({name: concrete(a, "to_onnx") for name, a in cell.items()} for cell in layer)
        for layer in split_layers(params, "ONNX")
    ]
    dtypes = {str(a.dtype) for layer in layers for cell in layer for a in cell.values()}
    if len(dtypes) > 1:
        raise ValueError(f"params must have one dtype; got {', '.join(sorted(dtypes))}. Cast them first.")
    model = _Builder(onnx, layers, states, lengths, time_major).model()
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        with whole(Path(path)) as file:
            file.write_bytes(model.SerializeToString())
    return model


class _Builder:
    """The nodes and constants of a graph while it is built. Every method adds what its value needs."""

    def __init__(self, onnx: ModuleType, layers: list[LayerWeights], states: bool, lengths: bool, time_major: bool):
        self.onnx, self.layers, self.states, self.lengths, self.time_major = onnx, layers, states, lengths, time_major
        first = layers[0][0]
        self.hidden, self.inputs = first["weight_hh"].shape[1], first["weight_ih"].shape[1]
        self.directions = len(layers[0])
        self.kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(first["weight_ih"].dtype))
        self.nodes: list[Proto] = []
        self.constants: list[Proto] = []

    def model(self) -> Proto:
        initial = self._split_states()
        x = "x" if self.time_major else self._add("Transpose", ["x"], "x_by_time", perm=[1, 0, 2])
        last: list[tuple[str, str]] = []
        for number, layer in enumerate(self.layers):
            x, *state = self._layer(number, layer, x, initial[number])
            last.append((state[0], state[1]))
        if self.time_major:
            self._add("Identity", [x], "y")
        else:
            self._add("Transpose", [x], "y", perm=[1, 0, 2])
        for name, parts in zip(("h_n", "c_n"), zip(*last, strict=True), strict=True):
            self._add("Concat", list(parts), name, axis=0)
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "lstm", self._inputs(), self._outputs(), self.constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="jax-lstm")

    def _layer(self, number: int, layer: LayerWeights, x: str, state: tuple[str, str]) -> tuple[str, str, str]:
        arrays = write_layer(layer)
        weights = [
            self._constant(f"{name}_l{number}", arrays[name]) if name in arrays else "" for name in ("W", "R", "B")
        ]
        outputs = [f"{name}_l{number}" for name in ("Y", "Y_h", "Y_c")]
        inputs = [x, *weights, "lengths" if self.lengths else "", *state]
        while not inputs[-1]:
            inputs.pop()
        direction = "bidirectional" if self.directions == 2 else "forward"
        options = {"hidden_size": self.hidden, "direction": direction, "name": f"lstm_l{number}"}
        self.nodes.append(self.onnx.helper.make_node("LSTM", inputs, outputs, **options))
        rows = self._add("Transpose", [outputs[0]], f"rows_l{number}", perm=[0, 2, 1, 3])  # [time, batch, dirs, H]
        shape = self._constant(f"shape_l{number}", np.array([0, 0, self.directions * self.hidden], np.int64))
        return self._add("Reshape", [rows, shape], f"y_l{number}"), outputs[1], outputs[2]

    def _split_states(self) -> list[tuple[str, str]]:
        """Return the names of each layer's initial states, which are empty if there are none."""
        count = len(self.layers)
        if not self.states:
            return [("", "")] * count
        if count == 1:
            return [("h0", "c0")]
        sizes = self._constant("rows", np.full(count, self.directions, np.int64))
        for name in ("h0", "c0"):
            outputs = [f"{name}_l{number}" for number in range(count)]
            self.nodes.append(self.onnx.helper.make_node("Split", [name, sizes], outputs, axis=0))
        return [(f"h0_l{number}", f"c0_l{number}") for number in range(count)]

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _inputs(self) -> list[Proto]:
        inputs = [self._value("x", self.kind, self._sequence(self.inputs))]
        if self.states:
            inputs += [self._value(name, self.kind, self._rows()) for name in ("h0", "c0")]
        if self.lengths:
            inputs.append(self._value("lengths", self.onnx.TensorProto.INT32, ["batch"]))
        return inputs

    def _outputs(self) -> list[Proto]:
        y = self._value("y", self.kind, self._sequence(self.directions * self.hidden))
        return [y, *(self._value(name, self.kind, self._rows()) for name in ("h_n", "c_n"))]

    def _sequence(self, width: int) -> Shape:
        return ["time", "batch", width] if self.time_major else ["batch", "time", width]

    def _rows(self) -> Shape:
        return [self.directions * len(self.layers), "batch", self.hidden]

    def _value(self, name: str, kind: int, shape: Shape) -> Proto:
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)
