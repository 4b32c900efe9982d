"""The weights in Keras 3's files, and .weights.h5 files without a configuration: LSTMs are found by shapes.

The order of layers is the order of their groups' numbers, within one class and one list. HDF5 keeps no other order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np

from jax_lstm.convert.keras.cell_arrays import Shape, are_recurrent, may_be_lstm, misfit
from jax_lstm.convert.keras.hdf5 import Node, child, read_dataset, read_text
from jax_lstm.convert.keras.inventory import Inventory, KerasRefusal, LayerEntry
from jax_lstm.convert.keras.layer_configs import ReadCell, WeightStore, stack_in_each_direction
from jax_lstm.convert.layers import LayerWeights

T = TypeVar("T")
CellGroups: TypeAlias = "dict[tuple[str, int], GroupWeights]"  # by direction, and by number in a stack of cells
_DIRECTIONS = ["forward_layer", "backward_layer"]
_PATH = re.compile(
    rf"(?P<layer>.*?)(?:/(?P<direction>{'|'.join(_DIRECTIONS)}))?"
    r"(?:/cell(?:/cells/lstm_cell(?:_(?P<number>\d+))?)?)?"
)
_NUMBERED = re.compile(r"(?P<parent>.*layers)/(?P<stem>.*?)(?:_(?P<number>\d+))?")


class GroupWeights(WeightStore):
    """The weights of a layer, or of all layers, in a group of a Keras 3 file."""

    def __init__(self, group: Node):
        self.group = group

    def attribute(self, name: str) -> GroupWeights:
        return GroupWeights(child(self.group, name))

    def entry(self, container: str, name: str, group: str) -> GroupWeights:
        weights = self.attribute(container).attribute(group)
        if weights.name not in (None, name):
            raise ValueError(
                f"{weights.group.name} has the weights of {weights.name!r}, where the configuration has {name!r}: the "
                "file was changed, or its configuration and weights are of two models."
            )
        return weights

    def arrays(self) -> list[np.ndarray]:
        values = child(self.group, "vars")
        return [read_dataset(child(values, name)) for name in sorted(values, key=int)]

    @property
    def name(self) -> str | None:
        """Keras's name of the layer, if the file has it."""
        return read_text(child(self.group, "vars"), "name") if "vars" in self.group else None

    def shapes(self) -> dict[str, Shape]:
        """Return the shapes of the group's own arrays, by their numbers."""
        values = child(self.group, "vars") if "vars" in self.group else {}
        return {name: getattr(child(values, name), "shape", ()) for name in sorted(values)}

    def groups(self) -> dict[str, GroupWeights]:
        """Return the groups below, without vars."""
        nodes = {name: child(self.group, name) for name in self.group if name != "vars"}
        return {name: GroupWeights(node) for name, node in nodes.items() if hasattr(node, "keys")}


def inventory_of_file(root: GroupWeights) -> Inventory:
    """Return the LSTM layers of the file, in order if the file says it."""
    groups: dict[str, CellGroups] = {}
    misfits: dict[str, list[Shape]] = {}
    for path, group, shapes in _recurrent_groups(root, ""):
        match = _PATH.fullmatch(path)
        assert match, path  # every part of the pattern may be empty
        if misfit(shapes):
            misfits[match["layer"]] = shapes
        else:
            groups.setdefault(match["layer"], {})[match["direction"] or "", int(match["number"] or 0)] = group
    named = _by_name(root, groups)
    unordered = ""
    try:
        named = {name: named[name] for name in _in_order(list(groups), list(named))}
    except ValueError as error:
        unordered = str(error)
    lstms = {name: LayerEntry(partial(_load, name, cells)) for name, cells in named.items()}
    others = dict.fromkeys(_others(root, groups), "group of other weights")
    refused = {
        name: KerasRefusal(f"{name} {misfit(shapes)}", may_be_lstm(shapes))
        for name, shapes in _by_name(root, misfits).items()
    }
    return Inventory(lstms, others, refused, unordered)


def _recurrent_groups(group: GroupWeights, path: str) -> Iterator[tuple[str, GroupWeights, list[Shape]]]:
    """Yield the groups that hold a recurrent cell's weights: path, group and shapes."""
    stored = group.shapes()
    shapes = list(stored.values()) if stored.keys() <= {"0", "1", "2"} else []
    if are_recurrent(shapes):
        yield path, group, shapes
    for name, inner in group.groups().items():
        yield from _recurrent_groups(inner, f"{path}/{name}".lstrip("/"))


def _others(root: GroupWeights, lstms: Mapping[str, CellGroups]) -> list[str]:
    """Return the groups without an LSTM, for errors."""
    above = "layers/" if "layers" in root.groups() else ""
    groups = root.attribute("layers").groups() if above else root.groups()
    return [name for name in groups if not any(f"{path}/".startswith(f"{above}{name}/") for path in lstms)]


def _by_name(root: GroupWeights, by_path: Mapping[str, T]) -> dict[str, T]:
    """Return the values by Keras's names of layers and the models around them; by paths if names are not unique."""
    names = []
    for path in by_path:
        group, parts = root, []
        for part in path.split("/") if path else []:
            group = group.attribute(part)
            if part != "layers":
                parts.append(group.name or part)
        names.append("/".join(parts))
    return dict(zip(names if len(set(names)) == len(by_path) else by_path, by_path.values(), strict=True))


def _in_order(paths: list[str], names: list[str]) -> list[str]:
    """Return the names by the numbers of their groups. ValueError if these are not of one class and list."""
    if len(paths) < 2:
        return names
    matches = [_NUMBERED.fullmatch(path) for path in paths]
    lists = {(match["parent"], match["stem"]) if match else None for match in matches}
    if len(lists) != 1 or None in lists:
        raise ValueError(
            f"it does not say in which order its LSTM layers follow one another: {', '.join(map(repr, names))}. "
            f"Name them from input to output, such as layers=({names[0]!r}, {names[1]!r}), or read the .keras file."
        )
    numbers = [int(match["number"] or 0) for match in matches if match]
    return [name for _, name in sorted(zip(numbers, names, strict=True))]


def _load(name: str, cells: CellGroups, read: ReadCell) -> list[LayerWeights]:
    directions = sorted({direction for direction, _ in cells}, reverse=True)  # "forward_layer" before "backward_layer"
    numbers = sorted({number for _, number in cells})
    if directions not in ([""], _DIRECTIONS) or len(cells) != len(directions) * len(numbers):
        raise ValueError(f"only some parts of {name!r} have an LSTM's weights: it is no layer of LSTMs.")
    if len(directions) > 1 and len(numbers) > 1:
        raise ValueError(stack_in_each_direction(repr(name)))
    return [tuple(read(name, cells[direction, n].arrays()) for direction in directions) for n in numbers]
