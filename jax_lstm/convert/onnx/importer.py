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
    """A network that `jax_lstm.convert.from_onnx` or `jax_lstm.convert.onnx_networks` read, ready for `jax_lstm.lstm`.

    Attributes:
      params: a torch.nn.LSTM state dict.
      state: the initial states, h and c `[R, B, H]`, if they are constants of the file; otherwise None.
      lengths: int `[B]`, if they are constants of the file; otherwise None.
      time_major: whether the sequences of the nodes are time-major (layout 0).
      from_graph: which of "initial_h", "initial_c" and "sequence_lens" are no constants, each with the names of the
        values from which it comes, by layer. One that the nodes do not have is absent: it means zeros, or full lengths.
      nodes: the names of the LSTM nodes. Names in a body are qualified by the nodes and branches around it, such as
        "rate/then_branch/lstm".

    Examples:
      >>> import numpy as np
      >>> import jax_lstm
      >>> arrays = {"W": np.zeros((1, 20, 3), np.float32), "R": np.zeros((1, 20, 5), np.float32)}
      >>> network = jax_lstm.convert.from_onnx(arrays)
      >>> network.time_major, network.state, network.lengths
      (True, None, None)
    """

    params: Params
    state: LSTMState | None
    lengths: np.ndarray | None
    time_major: bool
    from_graph: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxRefusal:
    """A network of a model that `jax_lstm.convert.onnx_networks` cannot read.

    Attributes:
      nodes: the names of its LSTM nodes.
      reason: why it cannot be read.

    Examples:
      >>> from jax_lstm import convert
      >>> refusal = convert.OnnxRefusal(nodes=("lstm_l0",), reason="LSTM node 'lstm_l0' has clip=1.0")
      >>> refusal.nodes
      ('lstm_l0',)
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

    The conversion is lossless unless `dtype` is narrower: `jax_lstm.convert.to_onnx` returns the same bits.

    Args:
      source: a path, the bytes of a model or an onnx.ModelProto. It may also be a mapping of the arrays of one node by
        the operator's names, "W" `[dirs, 4H, D]`, "R" `[dirs, 4H, H]`, "B" `[dirs, 8H]`, "sequence_lens", "initial_h"
        and "initial_c", with those attributes of the node that are no defaults.
      nodes: the names of the nodes to take, from input to output. None takes all, which must be one network. A node in
        a body has a qualified name, such as "rate/then_branch/lstm". Its own name suffices if no other LSTM node has
        it. Only transpositions, reshapes and dropout may stand between a node and the one before it.
      dtype: the dtype to cast weights and states to. None keeps each array's own.

    Returns:
      The network.

    Raises:
      ImportError: `source` is a model and onnx is not installed (extra "files").
      TypeError: an array of a node is not a floating-point array that JAX can read.
      ValueError: there is no such node, or there are several networks, which the error lists; a node asks for what this
        package does not compute (peepholes, clip, input_forget, other activations, only the reverse direction, computed
        weights, an unknown opset or layout); the nodes do not fit as a stack; `source` is damaged; or folding its
        constants would make more than 64 MiB and 32 times their size.

    Examples:
      >>> import numpy as np
      >>> import jax_lstm
      >>> arrays = {"W": np.zeros((1, 20, 3), np.float32), "R": np.zeros((1, 20, 5), np.float32)}
      >>> network = jax_lstm.convert.from_onnx(arrays)
      >>> x = np.zeros((7, 2, 3), np.float32)  # [T, B, D], the default layout of ONNX
      >>> y, state = jax_lstm.lstm(network.params, x, network.state, time_major=network.time_major)
      >>> y.shape
      (7, 2, 5)

      `convert.from_onnx("model.onnx")` reads a file.
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
      dtype: the dtype to cast weights and states to. None keeps each array's own.

    Returns:
      A dict of the networks by the qualified name of their first node, in the order of the file. A value is a
      `jax_lstm.convert.OnnxLSTM`, or a `jax_lstm.convert.OnnxRefusal` with the reason for which
      `jax_lstm.convert.from_onnx` raises an error.

    Raises:
      ImportError: onnx is not installed (extra "files").
      ValueError: `source` is no model, is damaged, has an unknown opset, or has no LSTM node.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> from jax_lstm import convert
      >>> model = convert.to_onnx(jax_lstm.init_lstm(jax.random.key(0), 3, 5))
      >>> for name, network in convert.onnx_networks(model).items():
      ...     print(name, network.reason if isinstance(network, convert.OnnxRefusal) else list(network.params))
      lstm_l0 ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
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
