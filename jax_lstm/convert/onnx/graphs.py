"""The graph of an ONNX model and the bodies of its If, Loop and Scan nodes: what a name means, and the LSTM nodes.

A body sees the values of the graphs around it; its own values come first. The graphs of a damaged or hostile file may
be cyclic and deeply nested. Therefore nothing here recurses. Source: ONNX's IR specification, "Graphs" and "Value
names".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Proto: TypeAlias = Any  # a message of onnx's protobuf. onnx is imported only if a model is read or written.
TRANSPARENT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")  # may stand between two layers
BETWEEN = 100  # nodes between two layers, at most; it also ends a cycle
LONGEST = 200  # characters of one part of a qualified name, so that a small file cannot make huge names


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph, or a function of the model.

    Attributes:
      proto: the GraphProto or FunctionProto.
      name: a body's is the qualified name of its node and its branch, such as "rate/then_branch"; a function's is its
        own name; the model's own graph has "".
      around: the graph that has the body's node.
      defined: by name, what defines a value: a NodeProto, TensorProto or SparseTensorProto, or None for an input.
    """

    proto: Proto
    name: str
    around: Graph | None
    defined: Mapping[str, Proto]

    def find(self, name: str) -> Value:
        """Return the value that ``name`` means here. The innermost graph that defines it decides."""
        graph = self
        while name not in graph.defined and graph.around is not None:
            graph = graph.around
        return Value(graph, name)

    def qualify(self, name: str) -> str:
        """Return a name with the nodes and branches around it."""
        return f"{self.name}/{name[:LONGEST]}" if self.name else name[:LONGEST]

    @property
    def function(self) -> str | None:
        """The name of the function to which the graph belongs."""
        graph = self
        while graph.around is not None:
            graph = graph.around
        return graph.name or None


@dataclass(frozen=True)
class Value:
    """A value, by the graph that defines it and its name there."""

    graph: Graph
    name: str

    @property
    def source(self) -> Proto:
        """What defines it, or None if it is an input or is not defined."""
        return self.graph.defined.get(self.name)

    @property
    def node(self) -> Proto:
        """The node whose output it is, or None if it is an input or a constant of the file."""
        return self.source if hasattr(self.source, "op_type") else None

    @property
    def inputs(self) -> list[Value]:
        """The values that its node reads."""
        return [self.graph.find(name) for name in self.node.input if name] if self.node is not None else []

    def __str__(self) -> str:
        if self.node is not None:
            return f"the {kind_of(self.node)} node {self.graph.qualify(name_of(self.node))!r}"
        if self.source is not None:
            return f"the initializer {self.name!r}"
        if self.name not in self.graph.defined:
            return f"{self.name!r}, which the model does not have"
        return f"the input {self.name!r} of {f'the body {self.graph.name!r}' if self.graph.name else 'the model'}"


@dataclass(frozen=True)
class LSTMNode:
    """An LSTM node. ``name`` is qualified by the nodes and branches around it, and no other LSTM node has it."""

    graph: Graph
    node: Proto
    name: str

    @property
    def output(self) -> Value | None:
        """Y, its output sequence."""
        return Value(self.graph, self.node.output[0]) if self.node.output and self.node.output[0] else None

    def reads(self) -> Value:
        """Return where its input sequence comes from. Nodes in between that compute nothing are skipped."""
        value = self.graph.find(next(iter(self.node.input), ""))
        for _ in range(BETWEEN):
            if value.node is None or kind_of(value.node) not in TRANSPARENT or not value.inputs:
                break
            value = value.inputs[0]
        return value


def name_of(node: Proto) -> str:
    """Return a node's name, or the name of its first output, which every node has."""
    return str(node.name or next(filter(None, node.output), ""))  # protobuf gives bytes if it is no UTF-8


def kind_of(node: Proto) -> str:
    """Return a node's operator, with its domain if it is not ONNX's own."""
    return str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def nodes_of(model: Proto) -> Iterator[tuple[Graph, Proto]]:
    """Yield the nodes of a model at every depth, each with its graph. A body's nodes follow the node that has it."""
    functions = [_graph(function, function.name[:LONGEST] or "function", None) for function in model.functions]
    graphs = [*reversed(functions), _graph(model.graph, "", None)]
    work = [(graph, node) for graph in graphs for node in reversed(graph.proto.node)]  # the end of the list comes first
    while work:
        graph, node = work.pop()
        yield graph, node
        for name, proto in reversed(list(_bodies(node))):
            body = _graph(proto, f"{graph.qualify(name_of(node))}/{name}", graph)
            work += [(body, inner) for inner in reversed(body.proto.node)]


def _graph(proto: Proto, name: str, around: Graph | None) -> Graph:
    inputs = {value if isinstance(value, str) else value.name: None for value in proto.input}
    defined: dict[str, Proto] = dict(inputs)
    defined |= {output: node for node in proto.node for output in node.output if output}
    defined |= {tensor.values.name: tensor for tensor in getattr(proto, "sparse_initializer", ())}
    defined |= {tensor.name: tensor for tensor in getattr(proto, "initializer", ())}
    # A caller may leave out a model's input that has an initializer: then it is a constant. A body gets all its inputs.
    return Graph(proto, name, around, defined if around is None else defined | inputs)


def _bodies(node: Proto) -> Iterator[tuple[str, Proto]]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name[:LONGEST], attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name[:LONGEST]}.{number}", graph


def find_lstms(nodes: Sequence[tuple[Graph, Proto]]) -> list[LSTMNode]:
    """Return the LSTM nodes among ``nodes``, in order."""
    lstms = [(graph, node) for graph, node in nodes if kind_of(node) == "LSTM"]
    names = _distinct([graph.qualify(name_of(node)) for graph, node in lstms])
    return [LSTMNode(graph, node, name) for (graph, node), name in zip(lstms, names, strict=True)]


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names. "#1", "#2", ... is added to those that occur more than once."""
    times, used = Counter(names), Counter[str]()
    distinct = []
    for name in names:
        unique = name
        while times[name] > 1 and unique in times:
            used[name] += 1
            unique = f"{name}#{used[name]}"
        distinct.append(unique)
    return distinct


def find_stacks(lstms: Sequence[LSTMNode]) -> list[list[LSTMNode]]:
    """Return the LSTM nodes as networks, the layers of each from the input on. Every node is in one of them.

    A node continues the network whose last layer it reads if it fits, and if no other LSTM node reads that layer. If
    two nodes read it, neither is more the next layer than the other.
    """
    by_output = {lstm.output: lstm for lstm in lstms if lstm.output is not None}
    below = {lstm.name: by_output.get(lstm.reads()) for lstm in lstms}
    readers = Counter(lstm.name for lstm in below.values() if lstm is not None)
    above: dict[str, LSTMNode] = {}
    for lstm in lstms:
        layer_below = below[lstm.name]
        if layer_below and readers[layer_below.name] == 1 and _form(layer_below.node) == _form(lstm.node):
            above[layer_below.name] = lstm
    continuing = {lstm.name for lstm in above.values()}
    networks: list[list[LSTMNode]] = []
    seen: set[str] = set()
    # Nodes that continue another one come last. Those that are still unseen then form a cycle, which no runtime takes.
    for first in sorted(lstms, key=lambda lstm: lstm.name in continuing):
        network: list[LSTMNode] = []
        layer: LSTMNode | None = first
        while layer is not None and layer.name not in seen:
            seen.add(layer.name)
            network.append(layer)
            layer = above.get(layer.name)
        networks += [network] if network else []
    return networks


def _form(node: Proto) -> tuple[Any, ...]:
    """Return what all layers of one LSTM have in common, as far as a node says it without its arrays."""
    given = {attribute.name: attribute.s or attribute.i for attribute in node.attribute}
    has_bias = len(node.input) > 3 and bool(node.input[3])
    return given.get("hidden_size"), given.get("direction", b"forward"), given.get("layout", 0), has_bias
