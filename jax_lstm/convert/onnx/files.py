"""ONNX models: their LSTM nodes as networks, and of each node its constant inputs, its attributes and what is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jax_lstm.convert.onnx.constants import Constants
from jax_lstm.convert.onnx.graphs import Found, Graph, find_lstms, kind_of, name_of, nodes_of, stacks
from jax_lstm.convert.onnx.nodes import Node
from jax_lstm.convert.onnx.operators import require_onnx

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # by position
WEIGHTS = ("W", "R", "B", "P")
VERSIONS = (7, 14, 22)  # of the operator; 14 added layout, 22 bfloat16
LISTED = 20  # networks or nodes that an error names, at most


class Model:
    """A model file, bytes or ModelProto. ValueError if it is none, has an unknown opset or no LSTM node."""

    def __init__(self, source: Any):
        onnx = require_onnx()
        model, self.what = _load(onnx, source)
        _check_opset(onnx, model, self.what)
        nodes = list(nodes_of(model))
        self.found = find_lstms(nodes)
        self.constants = Constants()
        if not self.found:
            raise ValueError(f"{self.what} has no LSTM node; it has {_kinds(nodes)}.")

    @cached_property
    def networks(self) -> list[list[Found]]:
        """All LSTM nodes, as networks whose layers follow one another."""
        return stacks(self.found)

    def only_network(self) -> list[Found]:
        """The nodes of the one network. ValueError, with the names of all, if there are more."""
        if len(self.networks) > 1:
            each = [f"nodes={[one.name for one in network]} reads {network[0].reads()}" for network in self.networks]
            raise ValueError(
                f"{self.what} has {len(each)} LSTM networks: {_listed(each, '; ')}. Choose one by its nodes, or read "
                "all of them with convert.onnx_networks."
            )
        return self.networks[0]

    def chosen(self, names: str | Sequence[str]) -> list[Found]:
        """The nodes by their names. ValueError if there is no such node, or if they do not follow one another."""
        found = [self._named(name) for name in ([names] if isinstance(names, str) else names)]
        for above, below in zip(found[1:], found, strict=False):
            if below.output is None or above.reads() != below.output:
                raise ValueError(
                    f"LSTM node {above.name!r} does not read what {below.name!r} gives, but {above.reads()}: they are "
                    "no stack. Choose with nodes=[...]."
                )
        return found

    def _named(self, name: str) -> Found:
        """The node with this qualified name, or else the only one that has this name in its own graph."""
        qualified = [one for one in self.found if one.name == name]
        found = qualified or [one for one in self.found if name_of(one.node) == name]
        if len(found) != 1:
            many = f"nodes has {name!r}, which {len(found)} LSTM nodes of {self.what} have"
            none = f"nodes has {name!r}; the LSTM nodes of {self.what} are"
            listed = _listed([repr(one.name) for one in found or self.found])
            raise ValueError(f"{many}: {listed}." if found else f"{none} {listed}.")
        return found[0]

    def read(self, found: Found) -> Node:
        """The node with its arrays. ValueError if weights are computed, or constants cannot be read."""
        _refuse_function(found)
        arrays, values = {}, {}
        for name, value in zip(INPUTS[1:], found.node.input[1:], strict=False):
            if not value:
                continue
            try:
                read = self.constants.read(found.graph.find(value))
            except ValueError as error:
                raise ValueError(f"{name} of LSTM node {found.name!r}: {error}") from error
            if hasattr(read, "dtype"):
                arrays[name] = read
            elif name in WEIGHTS:
                raise ValueError(f"{name} of LSTM node {found.name!r} comes from {read}; supported: constants.")
            else:
                values[name] = value
        return Node(found.name, arrays, dict(_attributes(found)), values)


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


def _refuse_function(found: Found) -> None:
    if found.graph.function is not None:
        raise ValueError(
            f"LSTM node {found.name!r} is in the function {found.graph.function!r} of the model, which its nodes call; "
            "supported: nodes of graphs. onnx.inliner.inline_local_functions(model) puts it there."
        )


def _kinds(nodes: Sequence[tuple[Graph, Any]]) -> str:
    return _listed(sorted({kind_of(node) for _, node in nodes}))


def _listed(said: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(said) - LISTED} more" if len(said) > LISTED else ""
    return separator.join(said[:LISTED]) + more


def _attributes(found: Found) -> Iterator[tuple[str, Any]]:
    onnx = require_onnx()
    known = onnx.defs.get_schema("LSTM").attributes
    for attribute in found.node.attribute:
        if attribute.name in known and attribute.type != known[attribute.name].type.value:
            raise ValueError(f"{attribute.name} of LSTM node {found.name!r} must be {known[attribute.name].type.name}.")
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, list):
            value = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in value]
        yield str(attribute.name), value
