"""Recurrent cells in the groups of layers of Keras's old HDF5 files, found by the names of their weights.

Names are paths, ``model/layer/lstm_cell/kernel``, of which all but the last part may be missing or be another: a group
is known to be a layer's, and the path says which part of that layer an array is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jax_lstm.convert.keras.cells import NAMES, misfit
from jax_lstm.convert.keras.hdf5 import array, child, texts
from jax_lstm.convert.keras.layers import Container, Store

WAY = re.compile(r"(?P<parent>(?:.*/)?)(?P<way>forward|backward)_(?P<stem>[^/]+)")  # how Bidirectional names its layers
_WEIGHT = re.compile(rf"(?:(?P<path>.*)/)?(?P<name>{'|'.join(NAMES)})(?P<number>_\d+)?(?::\d+)?")
_DIRECTIONS = ("forward_layer", "backward_layer")


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
        ways = [match["way"] for part in self.path.split("/") if (match := WAY.fullmatch(part))]
        return ways[-1:] == ["forward"]

    @property
    def wrong(self) -> str:
        """What makes it no LSTM, "" if nothing does. For files without a configuration, which would say so."""
        if self.beside:
            return f"has weights that no LSTM has: {', '.join(self.beside)}."
        return misfit(self.shapes)


def stored_cells(layers: Any, name: str) -> list[StoredCell]:
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
    return [
        StoredCell(
            path,
            tuple(named[part] for part in NAMES if part in named),
            tuple(weight for weight in rest if path and weight.startswith(f"{path}/")),
        )
        for (path, _), named in found.items()
        if {*NAMES[:2]} <= set(named) and all(hasattr(stored, "shape") for stored in named.values())
    ]


class StoredLayers(Container):
    """The layers of a file: each has a group by its name."""

    def __init__(self, layers: Any):
        self.layers = layers

    def entry(self, container: str, name: str, group: str) -> Store:
        return _Cells((name,), stored_cells(self.layers, name))


class _Cells(Store):
    """The cells of one layer's group, of which a part of the layer has some: known by the names in their paths.

    ``chain`` are the names of the layer and of what is within it: a model, the model in that, the layer in that.
    """

    def __init__(self, chain: tuple[str, ...], cells: Sequence[StoredCell]):
        self.chain = chain
        self.cells = cells

    def attribute(self, name: str) -> Store:
        """The cells of a direction, by the prefix that Keras gives its name; all for "cell", which has no path."""
        if name not in _DIRECTIONS:
            return self
        forward = name == _DIRECTIONS[0]  # a backward layer that the user gave keeps its own name
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
