"""What the configuration of a Keras layer says: whether it is an LSTM, and whether it computes what this package does.

A configuration is Keras's own, {"module", "class_name", "config"}, from ``get_config()`` or from a file's config.json.
It is read and never deserialised. The weights come separately, through a `WeightStore`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from jax_lstm.convert.arrays import AnyArray
from jax_lstm.convert.keras.cell_arrays import are_cudnn
from jax_lstm.convert.layers import CellWeights, LayerWeights

Config: TypeAlias = Any  # of a layer, JSON of a file that may be damaged: usually a mapping
ReadCell: TypeAlias = Callable[[str, Sequence[AnyArray]], CellWeights]
MODELS = ("Sequential", "Functional", "Model")
SUPPORTED = (
    "LSTM, LSTMCell, CuDNNLSTM, RNN of LSTMCells, Bidirectional of these, lists of them, Sequential and functional "
    "models"
)
COMPUTED = {"activation": "tanh", "recurrent_activation": "sigmoid"}
_RECURRENT = re.compile(r"RNN|LSTM|GRU|[.>]")  # a dot or > stands in names of classes that are not Keras's own
_NO_LSTMS = {"GRU", "GRUCell", "CuDNNGRU", "SimpleRNN", "SimpleRNNCell"}


class WeightStore(Protocol):
    """The weights of a layer, and of the layers within it."""

    def attribute(self, name: str) -> WeightStore:
        """Return the weights of a layer's attribute, such as "cell"."""

    def entry(self, container: str, name: str, group: str) -> WeightStore:
        """Return the weights of one of a model's "layers" or a stack's "cells".

        ``name`` is its own name and ``group`` the name of its group in Keras 3's files.
        """

    def arrays(self) -> list[AnyArray]:
        """Return a cell's own arrays."""


def kind_of(node: Config) -> str:
    """Return the name of Keras's class, or another class's full name, so that the two are never mistaken."""
    if not isinstance(node, Mapping):
        return type(node).__name__
    module, name = str(node.get("module")), str(node["class_name"])
    return name if module.split(".")[0] in ("keras", "tf_keras") else f"{module}.{name}"


def is_lstm(node: Config) -> bool:
    """Return whether `read_layer` takes a layer of this class. Its options may still be refused."""
    kind = kind_of(node)
    if kind == "RNN":
        return all(kind_of(cell) == "LSTMCell" for _, cell in _cells(node["config"]["cell"]))
    if kind == "Bidirectional":
        return all(is_lstm(node["config"].get(name)) for name in ("layer", "backward_layer"))
    return kind in ("LSTM", "LSTMCell", "CuDNNLSTM")


def may_be_recurrent(node: Config) -> bool:
    """Return whether a layer, or one within it, has a recurrent class or one of the user's own."""
    return bool(_recurrent_classes(node))


def is_no_lstm(node: Config) -> bool:
    """Return whether everything recurrent in a layer is a GRU or a simple RNN."""
    return _recurrent_classes(node) - {"RNN"} <= _NO_LSTMS


def _recurrent_classes(node: Config) -> set[str]:
    if not isinstance(node, Mapping) or "class_name" not in node:
        return set()
    config = node["config"] if isinstance(node.get("config"), Mapping) else {}
    within = [config.get(name) for name in ("layer", "cell")] + list(config.get("layers") or ())
    classes = {kind_of(node)} if _RECURRENT.search(kind_of(node)) else set()
    return classes.union(*map(_recurrent_classes, within))


def group_names(nodes: Iterable[Config]) -> list[str]:
    """Return the names of layers' groups in a weights file: the class in snake case, numbered from its second on."""
    seen: Counter[str] = Counter()
    names = []
    for node in nodes:
        stem = re.sub(r"\W+", "", str(node["class_name"]))
        stem = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", stem)).lower()
        names.append(f"{stem}_{seen[stem]}" if seen[stem] else stem)
        seen[stem] += 1
    return names


def describe(node: Config) -> str:
    """Return a layer's class and, if it is around another layer, that one's class."""
    inner = [f" of {kind_of(node['config'][name])}" for name in ("cell", "layer") if name in node["config"]]
    return f"{kind_of(node)}{''.join(inner)}"


def read_layer(
    node: Config, store: WeightStore, where: str, read: ReadCell, *, backwards: bool = False
) -> list[LayerWeights]:
    """Return the layers of an LSTM, LSTMCell, RNN or Bidirectional.

    Args:
      node: its configuration.
      store: its weights.
      where: its name in errors.
      read: reads the arrays of one cell.
      backwards: the value of go_backwards that it must have.

    Raises:
      ValueError: it computes something else than this package does.
    """
    kind = kind_of(node)
    if not is_lstm(node):
        raise ValueError(f"{where} is a {describe(node)}; supported: {SUPPORTED}.")
    config = node["config"]
    if bool(config.get("go_backwards")) != backwards:
        raise ValueError(
            f"{where} has go_backwards={not backwards}, where {backwards} is supported: Keras would return its outputs "
            "in the reverse order of time. Pass its get_weights(), and reverse its input yourself."
        )
    if kind == "Bidirectional":
        return [_both_directions(config, store, where, read)]
    if kind == "RNN":
        cell_store = store.attribute("cell")
        parts = [
            (cell_store.entry("cells", *path) if path else cell_store, cell) for path, cell in _cells(config["cell"])
        ]
    else:
        parts = [(store if kind == "LSTMCell" else store.attribute("cell"), node)]
    return [(_read_cell(cell, part, where, read),) for part, cell in parts]


def _both_directions(config: Mapping[str, Config], store: WeightStore, where: str, read: ReadCell) -> LayerWeights:
    if config.get("merge_mode") != "concat":
        raise ValueError(
            f"{where} has merge_mode={config.get('merge_mode')!r}, where 'concat' is supported. Pass its get_weights() "
            "with bidirectional=True, and merge both halves of the output yourself."
        )
    options = (("layer", "forward_layer", False), ("backward_layer", "backward_layer", True))
    directions = [
        read_layer(config[key], store.attribute(name), f"{where}, {name},", read, backwards=backwards)
        for key, name, backwards in options
    ]
    if any(len(layers) > 1 for layers in directions):
        raise ValueError(stack_in_each_direction(where))
    return directions[0][0] + directions[1][0]


def stack_in_each_direction(where: str) -> str:
    """Return the error of a Bidirectional around a stack of cells."""
    return f"{where} has a stack of cells in each direction, whose layers do not see the other direction."


def _read_cell(node: Config, store: WeightStore, where: str, read: ReadCell) -> CellWeights:
    """Return the cell of an LSTM, LSTMCell or CuDNNLSTM. CuDNNLSTM has no options: it computes what lstm does."""
    cudnn = kind_of(node) == "CuDNNLSTM"
    config = node["config"]
    for option, computed in () if cudnn else COMPUTED.items():
        if config[option] != computed:
            given = config[option]
            shown = repr(given) if isinstance(given, str) else "a function that Keras has no name for"
            raise ValueError(
                f"{where} has {option}={shown}, where {computed!r} is supported. If it computes the same, "
                "pass get_weights()."
            )
    arrays = store.arrays()
    if not arrays:
        raise ValueError(f"{where} has no weights yet: build the layer or model, or call it once, and save it then.")
    use_bias = cudnn or bool(config["use_bias"])
    if len(arrays) != 2 + use_bias:
        raise ValueError(f"{where} has use_bias={use_bias} and {len(arrays)} weights, which do not agree.")
    cell = read(where, arrays)
    if are_cudnn(arrays) != cudnn:
        raise ValueError(
            f"{where} is a {kind_of(node)}, and its weights are a {'LSTM' if cudnn else 'CuDNNLSTM'}'s: the "
            "configuration and the weights are of two layers."
        )
    return cell


def _cells(node: Config) -> list[tuple[tuple[str, str] | None, Config]]:
    """Return RNN's cells, each with its place in a stack of cells, which is its name and its group."""
    if kind_of(node) != "StackedRNNCells":
        return [(None, node)]
    cells = node["config"]["cells"]
    return [((cell["config"]["name"], group), cell) for cell, group in zip(cells, group_names(cells), strict=True)]
