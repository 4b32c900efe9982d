"""Recurrent cells in the layers' groups of Keras's old HDF5 files, found by the names of their weights.

Names are paths, ``model/layer/lstm_cell/kernel``. All but the last part may be missing or have another name: the group
says which layer it is, and the path says to which part of that layer an array belongs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from jax_lstm.convert.keras.cell_arrays import NAMES, Shape, misfit
from jax_lstm.convert.keras.hdf5 import Node, child, read_dataset, read_texts
from jax_lstm.convert.keras.layer_configs import WeightStore

# Bidirectional's names of its layers
DIRECTION = re.compile(r"(?P<parent>(?:.*/)?)(?P<direction>forward|backward)_(?P<stem>[^/]+)")
_WEIGHT = re.compile(rf"(?:(?P<path>.*)/)?(?P<name>{'|'.join(NAMES)})(?P<number>_\d+)?(?::\d+)?")
_ATTRIBUTES = ("forward_layer", "backward_layer")


@dataclass(frozen=True)
class StoredCell:
    """A recurrent cell in a file.

    Attributes:
      path: the path that the names of its arrays share.
      datasets: kernel, recurrent_kernel and perhaps bias.
      others: names of other weights at or below the path, such as peepholes.
    """

    path: str
    datasets: tuple[Node, ...]
    others: tuple[str, ...] = ()

    @property
    def shapes(self) -> list[Shape]:
        return [tuple(dataset.shape) for dataset in self.datasets]

    @property
    def is_forward(self) -> bool:
        """Whether the cell belongs to the forward layer, if it belongs to a Bidirectional."""
        matches = map(DIRECTION.fullmatch, self.path.split("/"))
        return [match["direction"] for match in matches if match][-1:] == ["forward"]

    @property
    def wrong(self) -> str:
        """Why the cell is no LSTM's, or "" if it may be one. A file without a configuration says no more."""
        if self.others:
            return f"has weights that no LSTM has: {', '.join(self.others)}."
        return misfit(self.shapes)


def find_cells(layers: Node, name: str) -> list[StoredCell]:
    """Return the recurrent cells of a layer, in the order of its weights."""
    group = child(layers, name)
    arrays_of: dict[tuple[str, str], dict[str, Node]] = {}  # by path and number
    others: list[str] = []
    for weight in read_texts(group, "weight_names") or ():
        match = _WEIGHT.fullmatch(weight)
        if match:
            key = (match["path"] or "", match["number"] or "")
            arrays_of.setdefault(key, {})[match["name"]] = child(group, weight)
        else:
            others.append(weight)
    return [
        StoredCell(
            path,
            tuple(arrays[part] for part in NAMES if part in arrays),
            tuple(weight for weight in others if path and weight.startswith(f"{path}/")),
        )
        for (path, _), arrays in arrays_of.items()
        if {*NAMES[:2]} <= set(arrays) and all(hasattr(node, "shape") for node in arrays.values())
    ]


def open_layer(layers: Node, name: str, group: str) -> NamedWeights:
    """Return the weights of a layer: each has a group by its name. Keras 3's name of the ``group`` is not used."""
    return NamedWeights((name,), find_cells(layers, name))


class NamedWeights(WeightStore):
    """The cells of one layer's group that belong to a part of the layer. The names in their paths tell which.

    ``chain`` has the names of the layer and of what is within it: a model, the model in that, the layer in that.
    """

    def __init__(self, chain: tuple[str, ...], cells: Sequence[StoredCell]):
        self.chain = chain
        self.cells = cells

    def attribute(self, name: str) -> NamedWeights:
        """Return the cells of a direction, by the prefix in their names; all cells for "cell", which has no path."""
        if name not in _ATTRIBUTES:
            return self
        forward = name == _ATTRIBUTES[0]  # a backward layer that the user made has a name without prefix
        return NamedWeights(self.chain, [cell for cell in self.cells if cell.is_forward == forward])

    def entry(self, container: str, name: str, group: str) -> NamedWeights:
        if container == "cells":
            return NamedWeights(self.chain, [cell for cell in self.cells if cell.path.split("/")[-1] == name])
        return NamedWeights((*self.chain, name), self.cells)

    def arrays(self) -> list[np.ndarray]:
        """Return the arrays of the only cell whose path has most names of the chain. The group has the first name."""
        scores = [_common(cell.path.split("/"), self.chain) if self.chain[1:] else 0 for cell in self.cells]
        best = [cell for cell, score in zip(self.cells, scores, strict=True) if score == max(scores)]
        if len(best) > 1:
            raise ValueError(
                f"the names of the weights do not say which are those of {'/'.join(self.chain)!r}: "
                f"{', '.join(cell.path for cell in best)}."
            )
        return [read_dataset(dataset) for cell in best for dataset in cell.datasets]


def _common(path: Sequence[str], chain: Sequence[str]) -> int:
    """Return how many names, from the last of ``chain`` upwards, stand in ``path`` one before the other."""
    ends = [n + 1 for n, part in enumerate(path) if part == chain[-1]]
    return max((_equal(path[end - 1 :: -1], chain[::-1]) for end in ends), default=0)


def _equal(a: Sequence[str], b: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
