"""ONNX models: their LSTM nodes as networks, and each node's constant inputs, attributes and other inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from jax_lstm.convert.onnx.constants import Constants
from jax_lstm.convert.onnx.graphs import Graph, LSTMNode, Proto, find_lstms, find_stacks, kind_of, name_of, nodes_of
from jax_lstm.convert.onnx.node_data import NodeData
from jax_lstm.convert.onnx.operators import require_onnx

ModelSource: TypeAlias = "str | os.PathLike[str] | bytes | Proto"  # a path, a file's content or a ModelProto
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # by position
WEIGHTS = ("W", "R", "B", "P")
VERSIONS = (7, 14, 22)  # versions of the operator; 14 added layout, 22 bfloat16
LISTED = 20  # networks or nodes that an error names, at most


class ModelFile:
    """A model file, bytes or ModelProto. ValueError if it is no model, has an unknown opset or no LSTM node."""

    def __init__(self, source: ModelSource):
        onnx = require_onnx()
        model, self.what = _load(onnx, source)
        _check_opset(onnx, model, self.what)
        nodes = list(nodes_of(model))
        self.lstms = find_lstms(nodes)
        self.constants = Constants()
        if not self.lstms:
            raise ValueError(f"{self.what} has no LSTM node; it has {_kinds(nodes)}.")

    @cached_property
    def networks(self) -> list[list[LSTMNode]]:
        """All LSTM nodes, as networks whose layers follow one another."""
        return find_stacks(self.lstms)

    def only_network(self) -> list[LSTMNode]:
        """Return the nodes of the only network. ValueError, which lists all networks, if there are more."""
        if len(self.networks) > 1:
            lines = [f"nodes={[node.name for node in network]} reads {network[0].reads()}" for network in self.networks]
            raise ValueError(
                f"{self.what} has {len(lines)} LSTM networks: {_list(lines, '; ')}. Choose one by its nodes, or read "
                "all of them with convert.onnx_networks."
            )
        return self.networks[0]

    def choose(self, names: str | Sequence[str]) -> list[LSTMNode]:
        """Return the nodes of these names. ValueError if one is missing, or if they do not follow one another."""
        nodes = [self._by_name(name) for name in ([names] if isinstance(names, str) else names)]
        for above, below in zip(nodes[1:], nodes, strict=False):
            if below.output is None or above.reads() != below.output:
                raise ValueError(
                    f"LSTM node {above.name!r} does not read what {below.name!r} gives, but {above.reads()}: they are "
                    "no stack. Choose with nodes=[...]."
                )
        return nodes

    def _by_name(self, name: str) -> LSTMNode:
        """Return the node with this qualified name, or else the only one that has this name in its own graph."""
        qualified = [lstm for lstm in self.lstms if lstm.name == name]
        matches = qualified or [lstm for lstm in self.lstms if name_of(lstm.node) == name]
        if len(matches) != 1:
            many = f"nodes has {name!r}, which {len(matches)} LSTM nodes of {self.what} have:"
            none = f"nodes has {name!r}; the LSTM nodes of {self.what} are"
            names = _list([repr(lstm.name) for lstm in matches or self.lstms])
            raise ValueError(f"{many if matches else none} {names}.")
        return matches[0]

    def read(self, lstm: LSTMNode) -> NodeData:
        """Return a node with its arrays. ValueError if weights are computed, or constants cannot be read."""
        _refuse_function(lstm)
        arrays, values = {}, {}
        for name, value in zip(INPUTS[1:], lstm.node.input[1:], strict=False):
            if not value:
                continue
            try:
                read = self.constants.read(lstm.graph.find(value))
            except ValueError as error:
                raise ValueError(f"{name} of LSTM node {lstm.name!r}: {error}") from error
            if hasattr(read, "dtype"):
                arrays[name] = read
            elif name in WEIGHTS:
                raise ValueError(f"{name} of LSTM node {lstm.name!r} comes from {read}; supported: constants.")
            else:
                values[name] = value
        return NodeData(lstm.name, arrays, dict(_attributes(lstm)), values)


def _load(onnx: ModuleType, source: ModelSource) -> tuple[Proto, str]:
    """Return the model, and what an error calls it."""
    if hasattr(source, "graph"):
        return source, "the model"
    what = "the model" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise ValueError(f"{what} is no file; expected an ONNX model.")
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    except Exception as error:  # protobuf, onnx's checker and the reader of external data have types of their own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{what} cannot be read as an ONNX model: {first}.") from error
    if not model.graph.node:
        raise ValueError(f"{what} has no graph; is it an ONNX model?")
    return model, what


def _check_opset(onnx: ModuleType, model: Proto, what: str) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    newest = onnx.defs.onnx_opset_version()
    version = onnx.defs.get_schema("LSTM", opset).since_version if 0 < opset <= newest else None
    if version not in VERSIONS:
        raise ValueError(
            f"{what} has opset {opset}, which is not supported; supported: 7 to {newest} (LSTM of opset "
            f"{', '.join(map(str, VERSIONS))}). onnx.version_converter may bring it there."
        )


def _refuse_function(lstm: LSTMNode) -> None:
    if lstm.graph.function is not None:
        raise ValueError(
            f"LSTM node {lstm.name!r} is in the function {lstm.graph.function!r} of the model, which its nodes call; "
            "supported: nodes of graphs. onnx.inliner.inline_local_functions(model) puts it there."
        )


def _kinds(nodes: Sequence[tuple[Graph, Proto]]) -> str:
    return _list(sorted({kind_of(node) for _, node in nodes}))


def _list(items: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return separator.join(items[:LISTED]) + more


def _attributes(lstm: LSTMNode) -> Iterator[tuple[str, Any]]:
    onnx = require_onnx()
    known = onnx.defs.get_schema("LSTM").attributes
    for attribute in lstm.node.attribute:
        if attribute.name in known and attribute.type != known[attribute.name].type.value:
            raise ValueError(f"{attribute.name} of LSTM node {lstm.name!r} must be {known[attribute.name].type.name}.")
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, list):
            value = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in value]
        yield str(attribute.name), value
