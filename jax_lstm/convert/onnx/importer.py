"""The LSTMs of an ONNX model, or the arrays of one LSTM node, as networks.

States are initial_h and initial_c, ``[dirs, B, H]`` of each node. Source: the operator's documentation, opset 7 to 22.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm._src.state import LSTMState
from jax_lstm.convert.arrays import AnyArray, Params, read_array
from jax_lstm.convert.layers import join_layers
from jax_lstm.convert.onnx.model_file import INPUTS, ModelFile, ModelSource
from jax_lstm.convert.onnx.node_data import NodeData, check_supported, read_layer

ARRAYS = INPUTS[1:]
EXPECTED = "a model (path, bytes or ModelProto), or the arrays of an LSTM node by name: W, R and optionally B, ..."


@dataclass(frozen=True)
class OnnxLSTM:
    """A network that :func:`from_onnx` or :func:`onnx_networks` read, ready for :func:`jax_lstm.lstm`.

    Attributes:
      params: a torch.nn.LSTM state dict.
      state: the initial states, h and c ``[R, B, H]``, if they are constants of the file.
      lengths: int ``[B]``, if they are constants of the file.
      time_major: whether the nodes' sequences are time-major (layout 0).
      from_graph: which of initial_h, initial_c and sequence_lens are no constants, each with the names of the values
        from which it comes, by layer. One that the nodes do not have is absent, which means zeros, or full lengths.
      nodes: the names of the LSTM nodes. Names in a body are qualified by the nodes and branches around it, as
        "rate/then_branch/lstm".
    """

    params: Params
    state: LSTMState | None
    lengths: np.ndarray | None
    time_major: bool
    from_graph: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxRefusal:
    """A network of a model that :func:`onnx_networks` cannot read.

    Attributes:
      nodes: the names of its LSTM nodes.
      reason: why it cannot be read.
    """

    nodes: tuple[str, ...]
    reason: str


def from_onnx(
    source: ModelSource | Mapping[str, AnyArray],
    nodes: str | Sequence[str] | None = None,
    *,
    dtype: DTypeLike | None = None,
) -> OnnxLSTM:
    """Read the LSTM nodes of an ONNX model as one network, or the arrays of a single node.

    Nodes are found at every depth, also in the bodies of If, Loop and Scan. An input of a node is a constant if it is
    one of the file. These nodes may stand between: Identity, Unsqueeze, Squeeze, Reshape, Transpose, Slice, Split,
    Concat, Gather, Expand, ConstantOfShape, and a Cast that keeps all values or rounds as IEEE 754 does.

    Args:
      source: a path, the bytes of a model or an onnx.ModelProto; or a mapping of a node's arrays by the operator's
        names, W, R, B, sequence_lens, initial_h, initial_c, with its attributes beside them if they are no defaults.
      nodes: names of the nodes to take, from input to output; None takes all, which must be one network. A node in a
        body has a qualified name, such as "rate/then_branch/lstm"; its own name suffices if no other LSTM node has it.
        Only transpositions, reshapes and dropout may stand between a node and the one before it.
      dtype: dtype to cast weights and states to; None keeps each array's own.

    Returns:
      An :class:`OnnxLSTM`. Lossless: :func:`to_onnx` returns the same bits.

    Raises:
      ImportError: ``source`` is a model and onnx is not installed (extra "files").
      ValueError, TypeError: there is no such node, or there are several networks, which the error lists; a node asks
        for what is not computed here (peepholes, clip, input_forget, other activations, only the reverse direction,
        computed weights, an unknown opset or layout); the nodes do not fit as a stack; ``source`` is damaged; or
        folding its constants would make more than 64 MiB and 32 times their size.

    Example:
      >>> network = convert.from_onnx("model.onnx")
      >>> y, state = jax_lstm.lstm(network.params, x, network.state, time_major=network.time_major)
    """
    if isinstance(source, Mapping):
        arrays = {name: source[name] for name in ARRAYS if source.get(name) is not None}
        if "W" not in arrays or "R" not in arrays:
            refuse_tree("source", EXPECTED, dict(source))
        attributes = {name: value for name, value in source.items() if name not in ARRAYS}
        return _read_network([NodeData("source", arrays, attributes, {})], dtype)
    model = _open(source)
    chosen = model.only_network() if nodes is None else model.choose(nodes)
    return _read_network([model.read(node) for node in chosen], dtype)


def onnx_networks(source: ModelSource, *, dtype: DTypeLike | None = None) -> dict[str, OnnxLSTM | OnnxRefusal]:
    """Read all LSTM networks of an ONNX model, such as one per branch of an If.

    A node that reads another one's output is the next layer of its network; only transpositions, reshapes and dropout
    may stand between. It begins a network of its own if its hidden size, direction, layout or biases differ from the
    layer below, or if several LSTM nodes read that layer. Every LSTM node of the model is in one of the networks.

    Args:
      source: a path, the bytes of a model or an onnx.ModelProto.
      dtype: dtype to cast weights and states to; None keeps each array's own.

    Returns:
      Each network by the qualified name of its first node, in the order of the file: an :class:`OnnxLSTM`, or an
      :class:`OnnxRefusal` with the reason for which :func:`from_onnx` raises an error.

    Raises:
      ImportError: onnx is not installed (extra "files").
      ValueError: ``source`` is no model, is damaged, has an unknown opset, or has no LSTM node.

    Example:
      >>> for name, network in convert.onnx_networks("model.onnx").items():
      ...     print(name, network.reason if isinstance(network, convert.OnnxRefusal) else list(network.params))
    """
    model = _open(source)
    networks: dict[str, OnnxLSTM | OnnxRefusal] = {}
    for lstms in model.networks:
        try:
            networks[lstms[0].name] = _read_network([model.read(lstm) for lstm in lstms], dtype)
        except (ValueError, TypeError) as error:
            networks[lstms[0].name] = OnnxRefusal(tuple(lstm.name for lstm in lstms), str(error))
    return networks


def _open(source: ModelSource) -> ModelFile:
    if not isinstance(source, (str, os.PathLike, bytes)) and not hasattr(source, "SerializeToString"):
        refuse_tree("source", EXPECTED, source)
    return ModelFile(source)


def _read_network(nodes: Sequence[NodeData], dtype: DTypeLike | None) -> OnnxLSTM:
    for node in nodes:
        check_supported(node)
    return OnnxLSTM(
        join_layers([read_layer(node, dtype) for node in nodes]),
        _read_states(nodes, dtype),
        _read_lengths(nodes),
        _layout(nodes) == 0,
        _from_graph(nodes),
        tuple(node.name for node in nodes),
    )


def _read_states(nodes: Sequence[NodeData], dtype: DTypeLike | None) -> LSTMState | None:
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
    return LSTMState(*(jnp.concatenate([_read_state(node, name, batch, dtype) for node in nodes]) for name in names))


def _read_state(node: NodeData, name: str, batch: int, dtype: DTypeLike | None) -> jax.Array:
    """Return a node's state ``[dirs, B, H]``; zeros if it has none."""
    r = node.arrays["R"]
    shape = (r.shape[0], batch, r.shape[2])
    if name not in node.arrays:
        return jnp.zeros(shape, read_array(f"{node.name}.R", r, dtype).dtype)
    state = read_array(f"{node.name}.{name}", node.arrays[name], dtype)
    state = state.swapaxes(0, 1) if node.attributes.get("layout", 0) and state.ndim == 3 else state
    if state.shape != shape:
        raise ValueError(f"{name} of LSTM node {node.name!r} must be [dirs, B, H] = {shape}; got {state.shape}.")
    return state


def _read_lengths(nodes: Sequence[NodeData]) -> np.ndarray | None:
    given = [np.asarray(node.arrays["sequence_lens"]) for node in nodes if "sequence_lens" in node.arrays]
    if not given:
        return None
    if len(given) != len(nodes) or any(not np.array_equal(a, given[0]) for a in given):
        raise ValueError(
            "sequence_lens differ from layer to layer; one LSTM has the same for all. Convert them one by one."
        )
    return given[0]


def _from_graph(nodes: Sequence[NodeData]) -> dict[str, tuple[str, ...]]:
    names = dict.fromkeys(name for node in nodes for name in node.values)
    return {name: tuple(node.values[name] for node in nodes if name in node.values) for name in names}


def _layout(nodes: Sequence[NodeData]) -> Any:
    layouts = [node.attributes.get("layout", 0) for node in nodes]
    if any(layout != layouts[0] for layout in layouts):
        raise ValueError(f"layout differs among the LSTM nodes {[node.name for node in nodes]}: {layouts}.")
    return layouts[0]
