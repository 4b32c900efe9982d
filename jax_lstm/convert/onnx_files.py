"""LSTM nodes of an ONNX model: their constant inputs as arrays, their attributes, and what stays an input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # by position
WEIGHTS = ("W", "R", "B", "P")
TRANSPARENT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")  # may stand between two layers
VERSIONS = (7, 14, 22)  # of the operator; 14 added layout, 22 bfloat16


@dataclass(frozen=True)
class Node:
    """arrays: its inputs that are constants, by the operator's names. values: the names of those that are not."""

    name: str
    arrays: Mapping[str, Any]
    attributes: Mapping[str, Any]
    values: Mapping[str, str]


def require_onnx() -> Any:
    """The onnx package. ImportError that says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX models need the package onnx: pip install 'jax-lstm[files]'.") from error
    return onnx


def read_nodes(source: Any, names: Sequence[str] | None) -> list[Node]:
    """The LSTM nodes of a model in order; those of ``names`` alone where these are given. ValueError, ImportError."""
    onnx = require_onnx()
    model, what = _load(onnx, source)
    _check_opset(onnx, model, what)
    nodes = _chosen(model.graph, names, what)
    producers = {output: node for node in model.graph.node for output in node.output}
    for above, below in zip(nodes[1:], nodes, strict=False):
        _check_follows(above, below, producers)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    return [_read_node(onnx, node, initializers, producers) for node in nodes]


def _load(onnx: Any, source: Any) -> tuple[Any, str]:
    """The model, and what to call it in an error."""
    if hasattr(source, "graph"):
        return source, "the model"
    what = "the model" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise ValueError(f"{what} is no file; expected an ONNX model.")
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    except Exception as error:  # protobuf's own, or an external data file that is not there
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{what} cannot be read as an ONNX model: {first}.") from error
    if not model.graph.node:
        raise ValueError(f"{what} has no graph; is it an ONNX model?")
    return model, what


def _check_opset(onnx: Any, model: Any, what: str) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    newest = onnx.defs.onnx_opset_version()
    version = onnx.defs.get_schema("LSTM", opset).since_version if 0 < opset <= newest else None
    if version not in VERSIONS:
        raise ValueError(
            f"{what} has opset {opset}, which is not supported; supported: 7 to {newest} (LSTM of opset "
            f"{', '.join(map(str, VERSIONS))}). onnx.version_converter may bring it there."
        )


def _chosen(graph: Any, names: Sequence[str] | None, what: str) -> list[Any]:
    known = [node for node in graph.node if node.op_type == "LSTM" and node.domain in ("", "ai.onnx")]
    if not known:
        kinds = sorted({f"{node.domain}.{node.op_type}".strip(".") for node in graph.node})
        raise ValueError(f"{what} has no LSTM node; it has {', '.join(kinds)}.")
    if names is None:
        return known
    by_name = {name_of(node): node for node in known}
    for name in names:
        if name not in by_name:
            raise ValueError(f"nodes has {name!r}; the LSTM nodes of {what} are {', '.join(map(repr, by_name))}.")
    return [by_name[name] for name in names]


def name_of(node: Any) -> str:
    """A node's name, or that of its first output, which every node has."""
    return node.name or next(filter(None, node.output), "")


def _check_follows(above: Any, below: Any, producers: Mapping[str, Any]) -> None:
    """ValueError unless ``above`` reads the sequence that ``below`` gives, with nothing computed between them."""
    value = above.input[0]
    while (node := producers.get(value)) is not None and node.op_type in TRANSPARENT:
        value = node.input[0]
    if not below.output or value != below.output[0]:
        between = "an input of the model" if node is None else f"a {node.op_type} node"
        raise ValueError(
            f"LSTM node {name_of(above)!r} does not read what {name_of(below)!r} gives, but {between}: they are no "
            "stack. Choose with nodes=[...]."
        )


def _read_node(onnx: Any, node: Any, initializers: Mapping[str, Any], producers: Mapping[str, Any]) -> Node:
    arrays, values = {}, {}
    for name, value in zip(INPUTS[1:], node.input[1:], strict=False):
        if not value:
            continue
        tensor = _constant(value, initializers, producers)
        if tensor is not None:
            arrays[name] = onnx.numpy_helper.to_array(tensor)
        elif name in WEIGHTS:
            source = producers.get(value)
            what = f"by a {source.op_type} node" if source is not None else "as an input of the model"
            raise ValueError(f"{name} of LSTM node {name_of(node)!r} comes {what}; supported: constants of the model.")
        else:
            values[name] = value
    return Node(name_of(node), arrays, dict(_attributes(onnx, node)), values)


def _constant(value: str, initializers: Mapping[str, Any], producers: Mapping[str, Any]) -> Any:
    """The tensor of a constant value; None where it is computed or given."""
    while value not in initializers:
        node = producers.get(value)
        if node is None or node.op_type not in ("Constant", "Identity"):
            return None
        if node.op_type == "Constant":
            return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        value = node.input[0]
    return initializers[value]


def _attributes(onnx: Any, node: Any) -> Iterator[tuple[str, Any]]:
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list):
            value = [item.decode() if isinstance(item, bytes) else item for item in value]
        yield attribute.name, value
