"""LSTMs in a .weights.h5 file, which has no configuration: found by their weights' shapes, named by Keras's names.

The order of layers is that of the numbers of their groups, within one class and one list; HDF5 keeps no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jax_lstm.convert.keras.cells import is_recurrent, may_be_lstm, misfit
from jax_lstm.convert.keras.inventory import Found, Inventory, KerasRefusal
from jax_lstm.convert.keras.layers import ReadCell
from jax_lstm.convert.layers import Layer

if TYPE_CHECKING:
    from jax_lstm.convert.keras.files import Groups

T = TypeVar("T")
Cells = dict[tuple[str, int], Any]  # by direction, and by number in a stack of cells
_PATH = re.compile(
    r"(?P<layer>.*?)(?:/(?P<way>forward_layer|backward_layer))?(?:/cell(?:/cells/lstm_cell(?:_(?P<number>\d+))?)?)?"
)
_NUMBERED = re.compile(r"(?P<parent>.*layers)/(?P<stem>.*?)(?:_(?P<number>\d+))?")


def inventory(root: Groups) -> Inventory:
    """Return the LSTM layers of the file, in order if the file says it."""
    found: dict[str, Cells] = {}
    wrong: dict[str, list[tuple[int, ...]]] = {}
    for path, group, shapes in _recurrent(root, ""):
        match = _PATH.fullmatch(path)
        assert match, path  # every part of the pattern may be empty
        if misfit(shapes):
            wrong[match["layer"]] = shapes
        else:
            found.setdefault(match["layer"], {})[match["way"] or "", int(match["number"] or 0)] = group
    named = _named(root, found)
    unordered = ""
    try:
        named = {name: named[name] for name in _in_order(list(found), list(named))}
    except ValueError as error:
        unordered = str(error)
    layers = {name: Found(partial(_layers, name, cells)) for name, cells in named.items()}
    others = dict.fromkeys(_others(root, found), "group of other weights")
    refused = {
        name: KerasRefusal(f"{name} {misfit(shapes)}", may_be_lstm(shapes))
        for name, shapes in _named(root, wrong).items()
    }
    return Inventory(layers, others, refused, unordered)


def _recurrent(group: Groups, path: str) -> Iterator[tuple[str, Groups, list[tuple[int, ...]]]]:
    """The groups that hold a recurrent cell's weights, [D, nH], [H, nH] and perhaps biases, and their shapes."""
    stored = group.shapes()
    shapes = list(stored.values()) if stored.keys() <= {"0", "1", "2"} else []
    if is_recurrent(shapes):
        yield path, group, shapes
    for name, inner in group.groups().items():
        yield from _recurrent(inner, f"{path}/{name}".lstrip("/"))


def _others(root: Groups, found: dict[str, Cells]) -> list[str]:
    """The groups without an LSTM, for errors."""
    above = "layers/" if "layers" in root.groups() else ""
    groups = root.attribute("layers").groups() if above else root.groups()
    return [name for name in groups if not any(f"{path}/".startswith(f"{above}{name}/") for path in found)]


def _named(root: Groups, found: dict[str, T]) -> dict[str, T]:
    """By Keras's names, after those of models around them, where these are unique; else by the paths of the groups."""
    names = []
    for path in found:
        group, parts = root, []
        for part in path.split("/") if path else []:
            group = group.attribute(part)
            if part != "layers":
                parts.append(group.name or part)
        names.append("/".join(parts))
    return dict(zip(names if len(set(names)) == len(found) else found, found.values(), strict=True))


def _in_order(paths: list[str], names: list[str]) -> list[str]:
    """The names by the numbers of their groups. ValueError if these are not of one class and list."""
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


def _layers(name: str, cells: Cells, read: ReadCell) -> list[Layer]:
    ways = sorted({way for way, _ in cells}, reverse=True)  # "forward_layer" before "backward_layer"
    numbers = sorted({number for _, number in cells})
    if ways not in ([""], ["forward_layer", "backward_layer"]) or len(cells) != len(ways) * len(numbers):
        raise ValueError(f"{name!r} has an LSTM's weights in some of its parts alone: it is no layer of LSTMs.")
    if len(ways) > 1 and len(numbers) > 1:
        raise ValueError(
            f"{name!r} has a stack of cells in each direction, whose layers do not see the other direction."
        )
    return [tuple(read(name, cells[way, number].weights()) for way in ways) for number in numbers]
