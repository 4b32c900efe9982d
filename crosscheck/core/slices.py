"""What is judged of a quantity: the whole, its slices, and apart from both what would outweigh everything else.

A mask of -1e30 hides every other number of an array in every norm. Numbers that no perturbation of weights, inputs and
cotangents moves, and those of an output that are larger than its median by 26 bits, are therefore a part of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

WHOLE, APART = "whole", "apart"
STEPS = {"t": "time step", "step": "training step"}  # kinds of slices that follow one another
GATES = ("i", "f", "g", "o")
_GATED = re.compile(r"(?:.*\.)?(?:weight_ih|weight_hh|bias_ih|bias_hh)(_l\d+(?:_reverse)?)?")


@dataclass(frozen=True)
class Cut:
    """Slices of a quantity: equal pieces along an axis, as many as there are labels.

    kind: "t" for time steps, one index each where they have no labels, the first ``used`` of them where the rest is
    padding; "gate"; "row" for the layers and directions of a state.
    """

    axis: int
    kind: str
    labels: tuple[str, ...] = ()
    used: int | None = None

    def rows(self, a: np.ndarray) -> np.ndarray:
        """[m, n]: one row a slice."""
        along = np.moveaxis(a, self.axis, 0)[: self.used]
        return along.reshape(len(self.labels) or along.shape[0], -1)

    def label(self, n: int) -> str:
        return f"t={self.step(n)}" if self.kind == "t" else f"{self.kind} {self.labels[n]}"

    def step(self, n: int) -> int:
        """The time step of the n-th slice."""
        return int(self.labels[n]) if self.labels else n


def gate_cuts(params: Mapping[str, np.ndarray]) -> dict[str, Cut]:
    """The gate blocks of every LSTM parameter under torch's names, at any prefix."""
    cuts = {}
    for name, value in params.items():
        found = _GATED.fullmatch(name)
        if found is None:
            continue
        hidden = _hidden_size(params, name)
        if hidden is not None and np.shape(value)[0] == 4 * hidden:
            cuts[name] = Cut(0, "gate", GATES)
    return cuts


def _hidden_size(params, name):
    """H, read off the recurrent weight or the projection beside ``name``; None where there is no LSTM."""
    recurrent = re.sub(r"(weight_ih|bias_ih|bias_hh)(?=(_l\d+(_reverse)?)?$)", "weight_hh", name)
    projection = params.get(recurrent.replace("weight_hh", "weight_hr"))
    if projection is not None:
        return np.shape(projection)[-1]
    weight = params.get(recurrent)
    return np.shape(weight)[-1] if weight is not None and np.ndim(weight) == 2 else None
