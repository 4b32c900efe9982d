"""ONNX's LSTM operator: the networks of a model file, or the arrays of one node.

States are initial_h and initial_c, [dirs, B, H] of each node. Source: the operator's documentation, opset 7 to 22.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lstm._src.recognize import refuse_tree
from jax_lstm._src.state import LSTMState
from jax_lstm.convert.arrays import read_array
from jax_lstm.convert.layers import joined
from jax_lstm.convert.onnx.files import Model
from jax_lstm.convert.onnx.nodes import Node, check_node, read_layer

ARRAYS = ("W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
EXPECTED = "a model (path, bytes or ModelProto), or the arrays of an LSTM node by name: W, R and optionally B, ..."


@dataclass(frozen=True)
class OnnxLSTM:
    """A network that :func:`from_onnx` or :func:`onnx_networks` read, ready for :func:`jax_lstm.lstm`.

    params: a torch.nn.LSTM state dict. state: the initial states, h and c ``[R, B, H]``, where they are constants of
    the file. lengths: int ``[B]``, where they are. time_major: whether the nodes' sequences are (layout 0). from_graph:
    for each of initial_h, initial_c and sequence_lens that is no constant, the names of the values that it comes from,
    by layer; one that is nowhere is absent, which means zeros, or whole rows. nodes: the names of its LSTM nodes, those
    in a body qualified by the nodes and branches around it, as "rate/then_branch/lstm".
    """

    params: dict[str, Any]
    state: LSTMState | None
    lengths: np.ndarray | None
    time_major: bool
    from_graph: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxRefusal:
    """A network of a model that :func:`onnx_networks` found and cannot read: the names of its nodes, and why."""

    nodes: tuple[str, ...]
    reason: str


def from_onnx(source: Any, nodes: str | Sequence[str] | None = None, *, dtype: Any = None) -> OnnxLSTM:
    """Read the LSTM nodes of an ONNX model as one network, or the arrays of a single node.

    Nodes are found at every depth: also in the bodies of If, Loop and Scan. An input of a node is a constant if it is
    one of the file, also through Identity, Unsqueeze, Squeeze, Reshape, Transpose, Slice, Split, Concat, Gather,
    Expand, ConstantOfShape, and a Cast that keeps all values or rounds as IEEE 754 does.

    Args:
      source: a path, the bytes of a model or an onnx.ModelProto; or a mapping of a node's arrays by the operator's
        names, W, R, B, sequence_lens, initial_h, initial_c, with its attributes beside them if they are no defaults.
      nodes: take these nodes, in this order; None takes all, which must be one network. A node in a body has a
        qualified name, such as "rate/then_branch/lstm"; its own name will do if no other LSTM node has it. Each must
        read what the one before it gives, through nothing but transpositions, reshapes and dropout.
      dtype: dtype to cast weights and states to; None keeps each array's own.

    Returns:
      An :class:`OnnxLSTM`. Lossless: :func:`to_onnx` gives the same bits back.

    Raises:
      ImportError: ``source`` is a model and onnx is not installed (extra "files").
      ValueError, TypeError: there is no such node, or several networks, which the error lists; what is not computed
        here (peepholes, clip, input_forget, other activations, a lone reverse direction, computed weights, an unknown
        opset or layout) or does not fit as a stack; ``source`` is damaged, or folding its constants would make more
        than 64 MiB and 32 times their size.
    """
    if isinstance(source, Mapping):
        arrays = {name: source[name] for name in ARRAYS if source.get(name) is not None}
        found = [Node("source", arrays, {name: value for name, value in source.items() if name not in ARRAYS}, {})]
        if "W" not in arrays or "R" not in arrays:
            refuse_tree("source", EXPECTED, dict(source))
        return _network(found, dtype)
    model = _model(source)
    chosen = model.only_network() if nodes is None else model.chosen(nodes)
    return _network([model.read(node) for node in chosen], dtype)


def onnx_networks(source: Any, *, dtype: Any = None) -> dict[str, OnnxLSTM | OnnxRefusal]:
    """Read all LSTM networks of an ONNX model, such as one per branch of an If.

    A node that reads what another gives, through nothing but transpositions, reshapes and dropout, is the next layer of
    its network. It begins a network of its own if its hidden size, direction, layout or biases differ from the layer
    below, or if several LSTM nodes read that layer. Every LSTM node of the model is in one of the networks.

    Args:
      source: a path, the bytes of a model or an onnx.ModelProto.
      dtype: dtype to cast weights and states to; None keeps each array's own.

    Returns:
      Each network by the qualified name of its first node, in the order of the file: an :class:`OnnxLSTM`, or an
      :class:`OnnxRefusal` with the reason for which :func:`from_onnx` raises an error.

    Raises:
      ImportError: onnx is not installed (extra "files").
      ValueError: ``source`` is no model, is damaged, has an unknown opset, or has no LSTM node.
    """
    model = _model(source)
    networks: dict[str, OnnxLSTM | OnnxRefusal] = {}
    for found in model.networks:
        try:
            networks[found[0].name] = _network([model.read(node) for node in found], dtype)
        except (ValueError, TypeError) as error:
            networks[found[0].name] = OnnxRefusal(tuple(node.name for node in found), str(error))
    return networks


def _model(source: Any) -> Model:
    if not isinstance(source, (str, os.PathLike, bytes)) and not hasattr(source, "SerializeToString"):
        refuse_tree("source", EXPECTED, source)
    return Model(source)


def _network(nodes: Sequence[Node], dtype: Any) -> OnnxLSTM:
    for node in nodes:
        check_node(node)
    return OnnxLSTM(
        joined([read_layer(node, dtype) for node in nodes]),
        _read_states(nodes, dtype),
        _read_lengths(nodes),
        _same(nodes, "layout", [node.attributes.get("layout", 0) for node in nodes]) == 0,
        _from_graph(nodes),
        tuple(node.name for node in nodes),
    )


def _read_states(nodes: Sequence[Node], dtype: Any) -> LSTMState | None:
    names = ("initial_h", "initial_c")
    given = [(node, name) for node in nodes for name in names if name in node.arrays]
    if not given:
        return None
    if any(name in node.values for node in nodes for name in names):
        raise ValueError(
            "some initial states are constants of the file and others come from the graph; convert the nodes one by "
            "one, with nodes=[...]."
        )
    node, name = given[0]
    shape = np.shape(node.arrays[name])
    batch = shape[1 - node.attributes.get("layout", 0)] if len(shape) == 3 else 0
    return LSTMState(*(jnp.concatenate([_state(node, name, batch, dtype) for node in nodes]) for name in names))


def _state(node: Node, name: str, batch: int, dtype: Any) -> Any:
    """[dirs, B, H]; zeros where it is absent."""
    r = node.arrays["R"]
    shape = (r.shape[0], batch, r.shape[2])
    if name not in node.arrays:
        return jnp.zeros(shape, read_array(f"{node.name}.R", r, dtype).dtype)
    state = read_array(f"{node.name}.{name}", node.arrays[name], dtype)
    state = state.swapaxes(0, 1) if node.attributes.get("layout", 0) and state.ndim == 3 else state
    if state.shape != shape:
        raise ValueError(f"{name} of LSTM node {node.name!r} must be [dirs, B, H] = {shape}; got {state.shape}.")
    return state


def _read_lengths(nodes: Sequence[Node]) -> np.ndarray | None:
    given = [np.asarray(node.arrays["sequence_lens"]) for node in nodes if "sequence_lens" in node.arrays]
    if not given:
        return None
    if len(given) != len(nodes) or any(not np.array_equal(a, given[0]) for a in given):
        raise ValueError(
            "sequence_lens differ from layer to layer; one LSTM has the same for all. Convert them one by one."
        )
    return given[0]


def _from_graph(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
    names = dict.fromkeys(name for node in nodes for name in node.values)
    return {name: tuple(node.values[name] for node in nodes if name in node.values) for name in names}


def _same(nodes: Sequence[Node], what: str, values: Sequence[Any]) -> Any:
    if any(value != values[0] for value in values):
        raise ValueError(f"{what} differs among the LSTM nodes {[node.name for node in nodes]}: {list(values)}.")
    return values[0]
