"""The HDF5 files that Keras 2 and tf.keras wrote, and that Keras 3 still reads and writes.

    model.save("x.h5")            attributes model_config (JSON) and keras_version, and a group model_weights of layers
    model.save_weights("x.h5")    the layers themselves

A group of layers has the attribute layer_names, in the order of the model. Each layer's group has the attribute
weight_names, the paths of its arrays below the group: ``lstm/lstm_cell/kernel:0``, or ``lstm/kernel:0`` before
TensorFlow 2. A model within the model, or a wrapper, is one such layer. Source: ``hdf5_format.py`` of Keras 2 and
``legacy_h5_format.py`` of Keras 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn, TypeAlias

from jax_lstm.convert.keras.cell_arrays import may_be_lstm
from jax_lstm.convert.keras.hdf5 import Node, child, read_dataset, read_text, read_texts
from jax_lstm.convert.keras.inventory import DAMAGE, Inventory, KerasRefusal, LayerEntry, reason_of
from jax_lstm.convert.keras.keras2_cells import DIRECTION, StoredCell, find_cells, open_layer
from jax_lstm.convert.keras.keras2_configs import as_keras3
from jax_lstm.convert.keras.layer_configs import ReadCell, stack_in_each_direction
from jax_lstm.convert.keras.model_configs import inventory_of_model
from jax_lstm.convert.layers import LayerWeights

StoredLayer: TypeAlias = Sequence[tuple[StoredCell, ...]]  # a stack of cells, each in one or two directions
_CELL = re.compile(r"(?P<layer>.*?)(?:/stacked_rnn_cells(?:_\d+)?)?/\w*(?:lstm|gru|rnn)_cell(?:_\d+)?")


def inventory_of_file(root: Node) -> Inventory | None:
    """Return the LSTM layers of a file of this kind; None if it is of another kind."""
    if "model_config" in root.attrs:
        _check_version(root)
        config, layers = as_keras3(json.loads(read_text(root, "model_config") or "")), child(root, "model_weights")
        return _with_unknown_classes(inventory_of_model(config, partial(open_layer, layers)), layers)
    if read_texts(root, "layer_names") is None:
        return None
    _check_version(root)
    return _inventory_of_weights(root)


def _check_version(root: Node) -> None:
    """Refuse Keras 1, whose weights have another layout, and files that do not say that they are Keras's."""
    version = read_text(root, "keras_version") or "1"
    if version.split(".")[0] == "1":
        raise ValueError(
            "was written by Keras 1, or not by Keras: its attribute keras_version is "
            f"{read_text(root, 'keras_version')!r}. Load it with Keras 2 and save it again."
        )


def _inventory_of_weights(root: Node) -> Inventory:
    lstms: dict[str, LayerEntry] = {}
    others: dict[str, str] = {}
    refused: dict[str, KerasRefusal] = {}
    for group in read_texts(root, "layer_names") or ():
        try:
            cells = find_cells(root, group)
        except (ValueError, *DAMAGE) as error:  # it may be an LSTM: the error is raised if this layer is chosen
            lstms[group] = LayerEntry(partial(_fail, error))
            continue
        if not cells:
            others[group] = "group of other weights"
        for name, layer in _by_layer(group, cells).items():
            parts = [cell for part in layer for cell in part]
            wrong = next(filter(None, (cell.wrong for cell in parts)), "")
            if wrong:
                others[name] = "group of other weights"
                refused[name] = KerasRefusal(f"{name} {wrong}", all(may_be_lstm(cell.shapes) for cell in parts))
            else:
                lstms[name] = LayerEntry(partial(_load, name, layer))
    return Inventory(lstms, others, refused)


def _by_layer(group: str, cells: Sequence[StoredCell]) -> dict[str, StoredLayer]:
    """Return the layers that the cells of one group are, by name.

    A layer has the name of the group. In a model within the model, its own name follows.
    """
    by_path: dict[str, list[StoredCell]] = {}
    for cell in cells:
        match = _CELL.fullmatch(cell.path)
        by_path.setdefault(match["layer"] if match else cell.path, []).append(cell)
    layers: dict[str, StoredLayer] = {}
    backward_of = {path: backward for path in by_path if (backward := _backward(path, by_path))}
    for path, parts in by_path.items():
        if path in backward_of:
            layers[path.rpartition("/")[0]] = list(zip(parts, by_path[backward_of[path]], strict=True))
        elif path not in backward_of.values():
            layers[path] = [(cell,) for cell in parts]
    names = [_name(group, path, is_only=len(layers) == 1) for path in layers]
    names = names if len(set(names)) == len(names) else [f"{group}/{path}" for path in layers]
    return dict(zip(names, layers.values(), strict=True))


def _backward(path: str, by_path: Mapping[str, Sequence[StoredCell]]) -> str:
    """Return the path of the backward layer whose Bidirectional has the forward layer ``path``, or ""."""
    match = DIRECTION.fullmatch(path)
    if not match or match["direction"] != "forward":
        return ""
    backward = f"{match['parent']}backward_{match['stem']}"
    return backward if len(by_path.get(backward, ())) == len(by_path[path]) else ""


def _name(group: str, path: str, *, is_only: bool) -> str:
    """Return the group's name, and the rest of the path after it, or the whole path if the group has other layers."""
    _, has_group, rest = f"/{path}/".rpartition(f"/{group}/")
    return f"{group}/{rest if has_group else '' if is_only else path}".strip("/")


def _fail(error: Exception, read: ReadCell) -> NoReturn:
    raise error


def _load(where: str, layer: StoredLayer, read: ReadCell) -> list[LayerWeights]:
    if len(layer) > 1 and len(layer[0]) > 1:
        raise ValueError(stack_in_each_direction(repr(where)))
    return [tuple(read(where, [read_dataset(a) for a in cell.datasets]) for cell in part) for part in layer]


def _with_unknown_classes(inventory: Inventory, layers: Node) -> Inventory:
    """Return the inventory with refusals of layers whose class is unknown and whose weights are a recurrent cell's."""
    unknown: dict[str, KerasRefusal] = {}
    known = [*inventory.lstms, *inventory.refused]
    groups = read_texts(layers, "layer_names") or ()
    for name, kind in inventory.others.items():
        group = next((group for group in groups if f"{name}/".startswith(f"{group}/")), None)
        is_known = name in inventory.refused or any(other.startswith(f"{name}/") for other in known)
        if group is None or is_known:  # of a model, the layers are known instead
            continue
        last = name.rpartition("/")[2]
        try:
            is_cell = any(name == group or last in cell.path.split("/") for cell in find_cells(layers, group))
        except (ValueError, *DAMAGE) as error:
            unknown[name] = KerasRefusal(f"{name} is a {kind}: {reason_of(error)}")
            continue
        if is_cell:
            unknown[name] = KerasRefusal(
                f"{name} is a {kind}, with weights like an LSTM's: its code says what it computes, and is not run."
            )
    return Inventory(inventory.lstms, inventory.others, {**inventory.refused, **unknown}, inventory.unordered)
