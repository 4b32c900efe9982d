"""The HDF5 files that Keras 2 and tf.keras wrote, and that Keras 3 still reads and writes.

    model.save("x.h5")            attributes model_config (JSON) and keras_version, and a group model_weights of layers
    model.save_weights("x.h5")    the layers themselves

A group of layers has the attribute layer_names, in the order of the model. Each layer's group has the attribute
weight_names, by which its arrays lie below it: ``lstm/lstm_cell/kernel:0``, or ``lstm/kernel:0`` before TensorFlow 2.
A model within the model, or a wrapper, is one such layer. Source: ``hdf5_format.py`` of Keras 2 and
``legacy_h5_format.py`` of Keras 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, NoReturn

from jax_lstm.convert import keras_models
from jax_lstm.convert.keras_cells import NAMES, is_recurrent, misfit
from jax_lstm.convert.keras_configs import modern
from jax_lstm.convert.keras_hdf5 import array, child, text, texts
from jax_lstm.convert.keras_inventory import DAMAGE, Found, Inventory, reason
from jax_lstm.convert.keras_layers import Container, ReadCell, Store
from jax_lstm.convert.layers import Layer

_WEIGHT = re.compile(rf"(?:(?P<path>.*)/)?(?P<name>{'|'.join(NAMES)})(?P<number>_\d+)?(?::\d+)?")
_CELL = re.compile(r"(?P<layer>.*?)(?:/stacked_rnn_cells)?/\w*(?:lstm|gru|rnn)_cell(?:_\d+)?")
_WAY = re.compile(r"(?P<parent>(?:.*/)?)(?P<way>forward|backward)_(?P<stem>[^/]+)")

DIRECTIONS = ("forward_layer", "backward_layer")


@dataclass(frozen=True)
class StoredCell:
    """A recurrent cell's datasets, kernel, recurrent_kernel and perhaps bias, and the path that their names share.

    ``beside`` are the names of other weights at or below that path, such as peepholes.
    """

    path: str
    datasets: tuple[Any, ...]
    beside: tuple[str, ...] = ()

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(stored.shape) for stored in self.datasets]

    @property
    def is_forward(self) -> bool:
        """Whether it is of a Bidirectional's forward layer, if it is of one."""
        ways = [match["way"] for part in self.path.split("/") if (match := _WAY.fullmatch(part))]
        return ways[-1:] == ["forward"]

    @property
    def wrong(self) -> str:
        """What makes it no LSTM, "" if nothing does. For files without a configuration, which would say so."""
        if self.beside:
            return f"has weights that no LSTM has: {', '.join(self.beside)}."
        return misfit(self.shapes)


def inventory(root: Any) -> Inventory | None:
    """Return the LSTM layers of a file of this kind; None if it is not of this kind."""
    if "model_config" in root.attrs:
        _check_version(root)
        config, layers = modern(json.loads(text(root, "model_config") or "")), child(root, "model_weights")
        found = keras_models.inventory(config, lambda: _Layers(layers))
        return _with_unknown(found, layers)
    if texts(root, "layer_names") is None:
        return None
    _check_version(root)
    return _inventory_of_weights(root)


def _check_version(root: Any) -> None:
    """Refuse Keras 1, whose weights have another layout, and files that do not say that they are Keras's."""
    version = text(root, "keras_version") or "1"
    if version.split(".")[0] == "1":
        raise ValueError(
            "was written by Keras 1, or not by Keras: its attribute keras_version is "
            f"{text(root, 'keras_version')!r}. Load it with Keras 2 and save it again."
        )


def _cells(layers: Any, name: str) -> list[StoredCell]:
    """The recurrent cells of a layer, in the order of its weights."""
    group = child(layers, name)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    rest: list[str] = []
    for weight in texts(group, "weight_names") or ():
        match = _WEIGHT.fullmatch(weight)
        if match:
            key = (match["path"] or "", match["number"] or "")
            found.setdefault(key, {})[match["name"]] = child(group, weight)
        else:
            rest.append(weight)
    cells = [
        StoredCell(
            path,
            tuple(named[part] for part in NAMES if part in named),
            tuple(weight for weight in rest if path and weight.startswith(f"{path}/")),
        )
        for (path, _), named in found.items()
        if {*NAMES[:2]} <= set(named) and all(hasattr(stored, "shape") for stored in named.values())
    ]
    return [cell for cell in cells if is_recurrent(cell.shapes)]


def _inventory_of_weights(root: Any) -> Inventory:
    found: dict[str, Found] = {}
    others: dict[str, str] = {}
    refused: dict[str, str] = {}
    for layer in texts(root, "layer_names") or ():
        try:
            cells = _cells(root, layer)
        except (ValueError, *DAMAGE) as error:  # it may be an LSTM: whoever wants it, or all, is told
            found[layer] = Found(partial(_fail, error))
            continue
        if not cells:
            others[layer] = "group of other weights"
        for name, parts in _by_layer(layer, cells).items():
            wrong = next(filter(None, (cell.wrong for part in parts for cell in part)), "")
            if wrong:
                others[name] = "group of other weights"
                refused[name] = f"{name} {wrong}"
            else:
                found[name] = Found(partial(_read, name, parts))
    return Inventory(found, others, refused)


def _by_layer(group: str, cells: Sequence[StoredCell]) -> dict[str, list[tuple[StoredCell, ...]]]:
    """The layers that the cells of one group are, by name, each with its stack of cells in one or two directions.

    A layer has the name of the group, and of a model within the model its own name after it.
    """
    by_path: dict[str, list[StoredCell]] = {}
    for cell in cells:
        match = _CELL.fullmatch(cell.path)
        by_path.setdefault(match["layer"] if match else cell.path, []).append(cell)
    layers: dict[str, list[tuple[StoredCell, ...]]] = {}
    for path, forward in by_path.items():
        match = _WAY.fullmatch(path)
        other = f"{match['parent']}backward_{match['stem']}" if match else ""
        if match and match["way"] == "backward" and f"{match['parent']}forward_{match['stem']}" in by_path:
            continue
        if match and match["way"] == "forward" and other in by_path:
            layers[match["parent"].rstrip("/")] = list(zip(forward, by_path[other], strict=True))
        else:
            layers[path] = [(cell,) for cell in forward]
    names = [_name(group, path, alone=len(layers) == 1) for path in layers]
    names = names if len(set(names)) == len(names) else [f"{group}/{path}" for path in layers]
    return dict(zip(names, layers.values(), strict=True))


def _name(group: str, path: str, *, alone: bool) -> str:
    """A layer's name: the group's, and what its path has after that, or all of it if the group has several layers."""
    _, has_group, rest = f"/{path}/".rpartition(f"/{group}/")
    return f"{group}/{rest if has_group else '' if alone else path}".strip("/")


def _fail(error: Exception, read: ReadCell) -> NoReturn:
    raise error


def _read(where: str, parts: Sequence[tuple[StoredCell, ...]], read: ReadCell) -> list[Layer]:
    if len(parts) > 1 and len(parts[0]) > 1:
        raise ValueError(
            f"{where!r} has a stack of cells in each direction, whose layers do not see the other direction."
        )
    return [tuple(read(where, [array(stored) for stored in cell.datasets]) for cell in part) for part in parts]


class _Layers(Container):
    """The layers of a file: each has a group by its name."""

    def __init__(self, layers: Any):
        self.layers = layers

    def entry(self, container: str, name: str, group: str) -> Store:
        return _Cells((name,), _cells(self.layers, name))


class _Cells(Store):
    """The cells of one layer's group, of which a part of the layer has some: known by the names in their paths.

    ``chain`` are the names of the layer and of what is within it: a model, the model in that, the layer in that.
    """

    def __init__(self, chain: tuple[str, ...], cells: Sequence[StoredCell]):
        self.chain = chain
        self.cells = cells

    def attribute(self, name: str) -> Store:
        """The cells of a direction, by the prefix that Keras gives its name; all for "cell", which has no path."""
        if name not in DIRECTIONS:
            return self
        forward = name == DIRECTIONS[0]  # a backward layer that the user gave keeps its own name
        return _Cells(self.chain, [cell for cell in self.cells if cell.is_forward == forward])

    def entry(self, container: str, name: str, group: str) -> Store:
        if container == "cells":
            return _Cells(self.chain, [cell for cell in self.cells if cell.path.split("/")[-1] == name])
        return _Cells((*self.chain, name), self.cells)

    def weights(self) -> list[Any]:
        """The arrays of the one cell whose path has most of the chain; the whole group is that of the first name."""
        scores = [_common(cell.path.split("/"), self.chain) if self.chain[1:] else 0 for cell in self.cells]
        best = [cell for cell, score in zip(self.cells, scores, strict=True) if score == max(scores)]
        if len(best) > 1:
            raise ValueError(
                f"the names of the weights do not say which are those of {'/'.join(self.chain)!r}: "
                f"{', '.join(cell.path for cell in best)}."
            )
        return [array(stored) for cell in best for stored in cell.datasets]


def _common(path: Sequence[str], chain: Sequence[str]) -> int:
    """How many names, from the last of ``chain`` on upwards, stand in ``path`` one before the other."""
    ends = [n + 1 for n, part in enumerate(path) if part == chain[-1]]
    return max((_equal(path[end - 1 :: -1], chain[::-1]) for end in ends), default=0)


def _equal(a: Sequence[str], b: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _with_unknown(found: Inventory, layers: Any) -> Inventory:
    """With the layers refused that have a recurrent cell's weights, and a class that does not say so."""
    unknown: dict[str, str] = {}
    listed = [*found.found, *found.refused]
    for name, kind in found.others.items():
        group = next((group for group in layers if f"{name}/".startswith(f"{group}/")), None)
        is_listed = name in found.refused or any(other.startswith(f"{name}/") for other in listed)
        if group is None or is_listed:  # a model's layers are listed, and not the model
            continue
        own = name.rpartition("/")[2]
        try:
            is_hidden = any(name == group or own in cell.path.split("/") for cell in _cells(layers, group))
        except (ValueError, *DAMAGE) as error:
            unknown[name] = f"{name} is a {kind}: {reason(error)}"
            continue
        if is_hidden:
            unknown[name] = (
                f"{name} is a {kind}, with weights like an LSTM's: its code says what it computes, and is not run."
            )
    return Inventory(found.found, found.others, {**found.refused, **unknown}, found.unordered)
