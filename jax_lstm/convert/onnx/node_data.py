"""The arrays and attributes of one LSTM node of ONNX: what is supported, and its layer as cells and back.

    W [dirs, 4H, D]     R [dirs, 4H, H]     B [dirs, 8H] = [Wb, Rb]     gates i o f c (c is g)

Gates are stacked as in torch, in another order. Both biases are kept, so that nothing is lost either way. Source: the
operator's documentation, opset 7 to 22.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from jax.typing import DTypeLike

from jax_lstm.convert import gates
from jax_lstm.convert.arrays import AnyArray, Array, namespace, read_array
from jax_lstm.convert.layers import CellWeights, LayerWeights

ORDER = "iofg"
ACTIVATIONS = ("sigmoid", "tanh", "tanh")


@dataclass(frozen=True)
class NodeData:
    """What an LSTM node says.

    Attributes:
      name: the node's name.
      arrays: its constant inputs, by the operator's names.
      attributes: its attributes by name.
      values: the names of its other inputs, by the operator's names.
    """

    name: str
    arrays: Mapping[str, AnyArray]
    attributes: Mapping[str, Any]
    values: Mapping[str, str]


def check_supported(node: NodeData) -> None:
    """Raise ValueError for whatever a node asks for and this package does not compute. The error names it."""
    dirs, hidden = _sizes(node)
    asked = dict(node.attributes)
    direction = asked.pop("direction", ("forward", "bidirectional")[dirs - 1])
    if direction == "reverse":
        _refuse(node, "only direction='reverse'", "forward and bidirectional; flip x in time before, and y after")
    if {"forward": 1, "bidirectional": 2}.get(direction) != dirs:
        _refuse(node, f"direction={direction!r} and {dirs} in W", "'forward' with 1, 'bidirectional' with 2")
    activations = asked.pop("activations", None) or ACTIVATIONS * dirs
    if tuple(map(str.lower, activations)) != ACTIVATIONS * dirs:
        _refuse(node, f"activations={list(activations)}", "Sigmoid, Tanh, Tanh in each direction")
    for name in ("activation_alpha", "activation_beta", "clip", "input_forget"):
        if asked.pop(name, None):
            _refuse(node, f"{name}={node.attributes[name]}", "the operator without it")
    if asked.pop("hidden_size", hidden) != hidden:
        _refuse(node, f"hidden_size={node.attributes['hidden_size']}", f"{hidden}, as R has")
    if asked.pop("layout", 0) not in (0, 1):
        _refuse(node, f"layout={node.attributes['layout']}", "0 and 1")
    if "P" in node.arrays and np.any(np.asarray(node.arrays["P"])):
        _refuse(node, "peepholes, P", "no P, or zeros")
    if asked:
        _refuse(node, f"{', '.join(sorted(asked))}", "the attributes that the operator has since opset 7")


def _refuse(node: NodeData, what: str, supported: str) -> NoReturn:
    raise ValueError(f"LSTM node {node.name!r} has {what}, which is not supported; supported: {supported}.")


def _sizes(node: NodeData) -> tuple[int, int]:
    """Return the number of directions and H. ValueError if the weights' shapes do not fit one another."""
    shapes = {name: tuple(np.shape(node.arrays[name])) for name in ("W", "R", "B") if name in node.arrays}
    w, r = shapes.get("W", ()), shapes.get("R", ())
    if len(w) != 3 or len(r) != 3 or w[0] not in (1, 2) or w[1] != 4 * r[2] or r != (w[0], 4 * r[2], r[2]):
        raise ValueError(f"LSTM node {node.name!r} must have W [dirs, 4H, D] and R [dirs, 4H, H]; got {shapes}.")
    if shapes.get("B", (w[0], 8 * r[2])) != (w[0], 8 * r[2]):
        raise ValueError(f"LSTM node {node.name!r} must have B [dirs, 8H] = {(w[0], 8 * r[2])}; got {shapes}.")
    return w[0], r[2]


def read_layer(node: NodeData, dtype: DTypeLike | None) -> LayerWeights:
    """Return the cell of each direction. Lossless."""
    read = {name: read_array(f"{node.name}.{name}", node.arrays[name], dtype) for name in "WRB" if name in node.arrays}
    return tuple(_read_cell({name: a[direction] for name, a in read.items()}) for direction in range(len(read["W"])))


def _read_cell(arrays: Mapping[str, Array]) -> CellWeights:
    cell = {"weight_ih": arrays["W"], "weight_hh": arrays["R"]}
    if "B" in arrays:
        cell["bias_ih"], cell["bias_hh"] = namespace(arrays["B"]).split(arrays["B"], 2)
    return {name: gates.reorder(a, ORDER, gates.TORCH) for name, a in cell.items()}


def write_layer(layer: LayerWeights) -> dict[str, np.ndarray]:
    """Return W, R and, if there are biases, B of one node; the inverse of `read_layer`."""
    ordered = [{n: gates.reorder(np.asarray(a), gates.TORCH, ORDER) for n, a in cell.items()} for cell in layer]
    arrays = {"W": np.stack([c["weight_ih"] for c in ordered]), "R": np.stack([c["weight_hh"] for c in ordered])}
    if "bias_ih" in layer[0]:
        arrays["B"] = np.stack([np.concatenate([c["bias_ih"], c["bias_hh"]]) for c in ordered])
    return arrays
