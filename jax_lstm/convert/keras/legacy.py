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
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from jax_lstm.convert.keras import models
from jax_lstm.convert.keras.cells import may_be_lstm
from jax_lstm.convert.keras.configs import modern
from jax_lstm.convert.keras.hdf5 import array, child, text, texts
from jax_lstm.convert.keras.inventory import DAMAGE, Found, Inventory, KerasRefusal, reason
from jax_lstm.convert.keras.layers import ReadCell
from jax_lstm.convert.keras.stored import WAY, StoredCell, StoredLayers, stored_cells
from jax_lstm.convert.layers import Layer

_CELL = re.compile(r"(?P<layer>.*?)(?:/stacked_rnn_cells(?:_\d+)?)?/\w*(?:lstm|gru|rnn)_cell(?:_\d+)?")


def inventory(root: Any) -> Inventory | None:
    """Return the LSTM layers of a file of this kind; None if it is not of this kind."""
    if "model_config" in root.attrs:
        _check_version(root)
        config, layers = modern(json.loads(text(root, "model_config") or "")), child(root, "model_weights")
        found = models.inventory(config, lambda: StoredLayers(layers))
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


def _inventory_of_weights(root: Any) -> Inventory:
    found: dict[str, Found] = {}
    others: dict[str, str] = {}
    refused: dict[str, KerasRefusal] = {}
    for layer in texts(root, "layer_names") or ():
        try:
            cells = stored_cells(root, layer)
        except (ValueError, *DAMAGE) as error:  # it may be an LSTM: whoever wants it, or all, is told
            found[layer] = Found(partial(_fail, error))
            continue
        if not cells:
            others[layer] = "group of other weights"
        for name, parts in _by_layer(layer, cells).items():
            wrong = next(filter(None, (cell.wrong for part in parts for cell in part)), "")
            if wrong:
                others[name] = "group of other weights"
                is_lstm = all(may_be_lstm(cell.shapes) for part in parts for cell in part)
                refused[name] = KerasRefusal(f"{name} {wrong}", is_lstm)
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
    reverse = {path: backward for path in by_path if (backward := _backward(path, by_path))}
    for path, parts in by_path.items():
        if path in reverse:
            parent = path.rpartition("/")[0]
            layers[parent] = list(zip(parts, by_path[reverse[path]], strict=True))
        elif path not in reverse.values():
            layers[path] = [(cell,) for cell in parts]
    names = [_name(group, path, alone=len(layers) == 1) for path in layers]
    names = names if len(set(names)) == len(names) else [f"{group}/{path}" for path in layers]
    return dict(zip(names, layers.values(), strict=True))


def _backward(path: str, by_path: Mapping[str, Sequence[StoredCell]]) -> str:
    """The path of the backward layer of a Bidirectional whose forward layer has ``path``, "" if there is none."""
    match = WAY.fullmatch(path)
    if not match or match["way"] != "forward":
        return ""
    backward = f"{match['parent']}backward_{match['stem']}"
    return backward if len(by_path.get(backward, ())) == len(by_path[path]) else ""


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


def _with_unknown(found: Inventory, layers: Any) -> Inventory:
    """With the layers refused that have a recurrent cell's weights, and a class that does not say so."""
    unknown: dict[str, KerasRefusal] = {}
    listed = [*found.found, *found.refused]
    groups = texts(layers, "layer_names") or ()
    for name, kind in found.others.items():
        group = next((group for group in groups if f"{name}/".startswith(f"{group}/")), None)
        is_listed = name in found.refused or any(other.startswith(f"{name}/") for other in listed)
        if group is None or is_listed:  # a model's layers are listed, and not the model
            continue
        own = name.rpartition("/")[2]
        try:
            is_hidden = any(name == group or own in cell.path.split("/") for cell in stored_cells(layers, group))
        except (ValueError, *DAMAGE) as error:
            unknown[name] = KerasRefusal(f"{name} is a {kind}: {reason(error)}")
            continue
        if is_hidden:
            unknown[name] = KerasRefusal(
                f"{name} is a {kind}, with weights like an LSTM's: its code says what it computes, and is not run."
            )
    return Inventory(found.found, found.others, {**found.refused, **unknown}, found.unordered)
