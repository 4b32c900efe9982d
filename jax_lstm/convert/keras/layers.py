"""What the configuration of one of Keras's layers says: whether it is an LSTM, and whether it computes this one.

A configuration is Keras's own, {"module", "class_name", "config"}, from ``get_config()`` or from a file's config.json.
It is read and never deserialised. The weights beside it come through a :class:`Store`, from objects or from a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from jax_lstm.convert.keras.cells import is_cudnn
from jax_lstm.convert.layers import Cell, Layer

ReadCell = Callable[[str, Sequence[Any]], Cell]
MODELS = ("Sequential", "Functional", "Model")
SUPPORTED = (
    "LSTM, LSTMCell, CuDNNLSTM, RNN of LSTMCells, Bidirectional of these, lists of them, Sequential and functional "
    "models"
)
_RECURRENT = re.compile(r"RNN|LSTM|GRU|[.>]")  # a dot or > stands in names of classes that are not Keras's own
_OTHERS = {"GRU", "GRUCell", "CuDNNGRU", "SimpleRNN", "SimpleRNNCell"}
COMPUTED = {"activation": "tanh", "recurrent_activation": "sigmoid"}


class Container(Protocol):
    """The weights of what has layers within it."""

    def entry(self, container: str, name: str, group: str) -> Store:
        """Those of one of a model's "layers" or a stack's "cells", by its name and by its group in Keras 3's files."""


class Store(Container, Protocol):
    """The weights of a layer, and of the layers within it."""

    def attribute(self, name: str) -> Store:
        """Those of a layer's attribute, such as "cell"."""

    def weights(self) -> list[Any]:
        """A cell's own arrays."""


def kind_of(node: Any) -> str:
    """Keras's class, or another's in full: a class of the user's is never taken for Keras's of the same name."""
    if not isinstance(node, Mapping):
        return type(node).__name__
    module, name = str(node.get("module")), str(node["class_name"])
    return name if module.split(".")[0] in ("keras", "tf_keras") else f"{module}.{name}"


def is_lstm(node: Any) -> bool:
    """Whether a layer is one that :func:`read_layer` takes, apart from its options."""
    kind = kind_of(node)
    if kind == "RNN":
        return all(kind_of(cell) == "LSTMCell" for _, cell in _cells(node["config"]["cell"]))
    if kind == "Bidirectional":
        return all(is_lstm(node["config"].get(name)) for name in ("layer", "backward_layer"))
    return kind in ("LSTM", "LSTMCell", "CuDNNLSTM")


def is_recurrent(node: Any) -> bool:
    """Whether a layer, or one within it, is recurrent by its class, or of a class of the user's, which may be so."""
    return bool(_recurrent_classes(node))


def is_other(node: Any) -> bool:
    """Whether a recurrent layer is a GRU or a simple RNN, and has nothing else that is recurrent in it."""
    return _recurrent_classes(node) - {"RNN"} <= _OTHERS


def _recurrent_classes(node: Any) -> set[str]:
    if not isinstance(node, Mapping) or "class_name" not in node:
        return set()
    inner = node["config"] if isinstance(node.get("config"), Mapping) else {}
    within = [inner.get(name) for name in ("layer", "cell")] + list(inner.get("layers") or ())
    own = {kind_of(node)} if _RECURRENT.search(kind_of(node)) else set()
    return own.union(*map(_recurrent_classes, within))


def group_names(nodes: Iterable[Any]) -> list[str]:
    """The names of entries in a weights file: the class in snake case, numbered from the second of a class on."""
    seen: Counter[str] = Counter()
    names = []
    for node in nodes:
        stem = re.sub(r"\W+", "", str(node["class_name"]))
        stem = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", stem)).lower()
        names.append(f"{stem}_{seen[stem]}" if seen[stem] else stem)
        seen[stem] += 1
    return names


def described(node: Any) -> str:
    """Return a layer's class and, of a layer around another, that one's."""
    inner = [f" of {kind_of(node['config'][name])}" for name in ("cell", "layer") if name in node["config"]]
    return f"{kind_of(node)}{''.join(inner)}"


def read_layer(node: Any, store: Store, where: str, read: ReadCell, *, backwards: bool = False) -> list[Layer]:
    """The layers of an LSTM, LSTMCell, RNN or Bidirectional. ValueError where one computes what is not ours.

    ``where`` names it in errors; ``backwards`` says which go_backwards it must have.
    """
    kind = kind_of(node)
    if not is_lstm(node):
        raise ValueError(f"{where} is a {described(node)}; supported: {SUPPORTED}.")
    config = node["config"]
    if bool(config.get("go_backwards")) != backwards:
        raise ValueError(
            f"{where} has go_backwards={not backwards}, where {backwards} is supported: Keras would return its outputs "
            "in the reverse order of time. Pass its get_weights(), and reverse its input yourself."
        )
    if kind == "Bidirectional":
        return [_both_directions(config, store, where, read)]
    if kind == "RNN":
        parts = [(_part(store.attribute("cell"), path), cell) for path, cell in _cells(config["cell"])]
    else:
        parts = [(store if kind == "LSTMCell" else store.attribute("cell"), node)]
    return [(_checked_cell(cell, part, where, read),) for part, cell in parts]


def _both_directions(config: Mapping[str, Any], store: Store, where: str, read: ReadCell) -> Layer:
    if config.get("merge_mode") != "concat":
        raise ValueError(
            f"{where} has merge_mode={config.get('merge_mode')!r}, where 'concat' is supported. Pass its get_weights() "
            "with bidirectional=True, and merge both halves of the output yourself."
        )
    ways = (("layer", "forward_layer", False), ("backward_layer", "backward_layer", True))
    found = [
        read_layer(config[key], store.attribute(name), f"{where}, {name},", read, backwards=backwards)
        for key, name, backwards in ways
    ]
    if any(len(layers) > 1 for layers in found):
        raise ValueError(
            f"{where} has a stack of cells in each direction, whose layers do not see the other direction."
        )
    return found[0][0] + found[1][0]


def _checked_cell(node: Mapping[str, Any], store: Store, where: str, read: ReadCell) -> Cell:
    """The cell of an LSTM, LSTMCell or CuDNNLSTM. The last has no options: it computes what ours does, with biases."""
    cudnn = kind_of(node) == "CuDNNLSTM"
    config = node["config"]
    for option, computed in () if cudnn else COMPUTED.items():
        if config[option] != computed:
            given = config[option]
            shown = repr(given) if isinstance(given, str) else "a function that Keras has no name for"
            raise ValueError(
                f"{where} has {option}={shown}, where {computed!r} is supported. Where it computes the same, "
                "pass get_weights()."
            )
    weights = store.weights()
    if not weights:
        raise ValueError(f"{where} has no weights yet: build the layer or model, or call it once, and save it then.")
    use_bias = cudnn or bool(config["use_bias"])
    if len(weights) != 2 + use_bias:
        raise ValueError(f"{where} has use_bias={use_bias} and {len(weights)} weights, which do not agree.")
    cell = read(where, weights)
    if is_cudnn(weights) != cudnn:
        raise ValueError(
            f"{where} is a {kind_of(node)}, and its weights are a {'LSTM' if cudnn else 'CuDNNLSTM'}'s: the "
            "configuration and the weights are of two layers."
        )
    return cell


def _cells(node: Any) -> list[tuple[tuple[str, str] | None, Any]]:
    """RNN's cells, of which there may be several, and where each lies in a stack of cells: its name and its group."""
    if kind_of(node) != "StackedRNNCells":
        return [(None, node)]
    cells = node["config"]["cells"]
    return [((cell["config"]["name"], group), cell) for cell, group in zip(cells, group_names(cells), strict=True)]


def _part(store: Store, path: tuple[str, str] | None) -> Store:
    return store if path is None else store.entry("cells", *path)
