"""The graph of an ONNX model and the bodies of its If, Loop and Scan nodes: what a name means, and the LSTM nodes.

A body sees the values of the graphs around it; its own come first. Graphs of a file that is damaged or hostile may be
cyclic and deeply nested, so that nothing here recurses. Source: ONNX's IR specification, "Graphs" and "Value names".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TRANSPARENT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")  # may stand between two layers
BETWEEN = 100  # nodes between two layers, at most; it also ends a cycle
LONGEST = 200  # characters of one part of a qualified name, so that a small file cannot make huge names


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph, or a function of the model.

    name: of a body, the qualified name of its node and its branch, as "rate/then_branch"; of a function, its name;
    "" of the model's own graph. defined: a NodeProto, a TensorProto, a SparseTensorProto or None, which is an input.
    """

    proto: Any
    name: str
    around: Graph | None
    defined: Mapping[str, Any]

    def find(self, name: str) -> Value:
        """Return the value that ``name`` means here: of the innermost graph that defines it."""
        graph = self
        while name not in graph.defined and graph.around is not None:
            graph = graph.around
        return Value(graph, name)

    def qualified(self, name: str) -> str:
        return f"{self.name}/{name[:LONGEST]}" if self.name else name[:LONGEST]

    @property
    def function(self) -> str | None:
        """The name of the function that it belongs to."""
        graph = self
        while graph.around is not None:
            graph = graph.around
        return graph.name or None


@dataclass(frozen=True)
class Value:
    """A value by the graph that defines it."""

    graph: Graph
    name: str

    @property
    def source(self) -> Any:
        return self.graph.defined.get(self.name)

    @property
    def node(self) -> Any:
        """The node that gives it; None if it is an input or a constant of the file."""
        return self.source if hasattr(self.source, "op_type") else None

    @property
    def inputs(self) -> list[Value]:
        """What its node reads."""
        return [self.graph.find(name) for name in self.node.input if name] if self.node is not None else []

    def __str__(self) -> str:
        if self.node is not None:
            return f"the {kind_of(self.node)} node {self.graph.qualified(name_of(self.node))!r}"
        if self.source is not None:
            return f"the initializer {self.name!r}"
        if self.name not in self.graph.defined:
            return f"{self.name!r}, which the model does not have"
        return f"the input {self.name!r} of {f'the body {self.graph.name!r}' if self.graph.name else 'the model'}"


@dataclass(frozen=True)
class Found:
    """An LSTM node. ``name`` is qualified by the nodes and branches around it, and no other LSTM node has it."""

    graph: Graph
    node: Any
    name: str

    @property
    def output(self) -> Value | None:
        """Y, the sequence that it gives."""
        return Value(self.graph, self.node.output[0]) if self.node.output and self.node.output[0] else None

    def reads(self) -> Value:
        """Return where its sequence comes from, through nodes that compute nothing."""
        value = self.graph.find(next(iter(self.node.input), ""))
        for _ in range(BETWEEN):
            if value.node is None or kind_of(value.node) not in TRANSPARENT or not value.inputs:
                break
            value = value.inputs[0]
        return value


def name_of(node: Any) -> str:
    """Return a node's name, or that of its first output, which every node has."""
    return str(node.name or next(filter(None, node.output), ""))  # protobuf gives bytes if it is no UTF-8


def kind_of(node: Any) -> str:
    """Return the operator, with its domain if it is not ONNX's own."""
    return f"{node.op_type}" if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def nodes_of(model: Any) -> Iterator[tuple[Graph, Any]]:
    """Yield the nodes of a model at every depth, those of a body after the node that has it, each with its graph."""
    functions = [_graph(function, function.name[:LONGEST] or "function", None) for function in model.functions]
    work = [(graph, node) for graph in (*reversed(functions), _graph(model.graph, "", None)) for node in _last(graph)]
    while work:
        graph, node = work.pop()
        yield graph, node
        for name, proto in reversed(list(_bodies(node))):
            body = _graph(proto, f"{graph.qualified(name_of(node))}/{name}", graph)
            work += [(body, inner) for inner in _last(body)]


def _last(graph: Graph) -> list[Any]:
    """The nodes, last first, as a stack takes them."""
    return list(reversed(graph.proto.node))


def _graph(proto: Any, name: str, around: Graph | None) -> Graph:
    inputs = {value if isinstance(value, str) else value.name: None for value in proto.input}
    defined: dict[str, Any] = dict(inputs)
    defined |= {output: node for node in proto.node for output in node.output if output}
    defined |= {tensor.values.name: tensor for tensor in getattr(proto, "sparse_initializer", ())}
    defined |= {tensor.name: tensor for tensor in getattr(proto, "initializer", ())}
    # A caller may leave out a model's input that has an initializer. The node around a body gives all of its inputs.
    return Graph(proto, name, around, defined if around is None else defined | inputs)


def _bodies(node: Any) -> Iterator[tuple[str, Any]]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name[:LONGEST], attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name[:LONGEST]}.{number}", graph


def find_lstms(nodes: Sequence[tuple[Graph, Any]]) -> list[Found]:
    """Return the LSTM nodes among ``nodes``, in order."""
    lstms = [(graph, node) for graph, node in nodes if kind_of(node) == "LSTM"]
    names = _distinct([graph.qualified(name_of(node)) for graph, node in lstms])
    return [Found(graph, node, name) for (graph, node), name in zip(lstms, names, strict=True)]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that occur more than once with "#1", "#2", ... behind."""
    times, used = Counter(names), Counter[str]()
    distinct = []
    for name in names:
        unique = name
        while times[name] > 1 and unique in times:
            used[name] += 1
            unique = f"{name}#{used[name]}"
        distinct.append(unique)
    return distinct


def stacks(found: Sequence[Found]) -> list[list[Found]]:
    """Return the LSTM nodes as networks, the layers of each from the input on; every node is in one of them.

    A node continues the network whose last layer it reads if it fits, and if no other LSTM node reads that layer: of
    two that read one, neither is more its next layer than the other.
    """
    outputs = {one.output: one for one in found if one.output is not None}
    below = {one.name: outputs.get(one.reads()) for one in found}
    readers = Counter(one.name for one in below.values() if one is not None)
    above: dict[str, Found] = {}
    for one in found:
        under = below[one.name]
        if under is not None and readers[under.name] == 1 and _form(under.node) == _form(one.node):
            above[under.name] = one
    continued = {one.name for one in above.values()}
    networks: list[list[Found]] = []
    seen: set[str] = set()
    # Nodes that continue another come last: what is then still unseen is a cycle, of a model that no runtime takes.
    for start in sorted(found, key=lambda one: one.name in continued):
        network: list[Found] = []
        layer: Found | None = start
        while layer is not None and layer.name not in seen:
            seen.add(layer.name)
            network.append(layer)
            layer = above.get(layer.name)
        networks += [network] if network else []
    return networks


def _form(node: Any) -> tuple[Any, ...]:
    """What all layers of one LSTM have in common, as far as a node says it without its arrays."""
    given = {attribute.name: attribute.s or attribute.i for attribute in node.attribute}
    has_bias = len(node.input) > 3 and bool(node.input[3])
    return given.get("hidden_size"), given.get("direction", b"forward"), given.get("layout", 0), has_bias
