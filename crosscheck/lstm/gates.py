"""The gates of torch's LSTM: their order in a parameter's rows, and the slices of a parameter by gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from crosscheck.core.problem import Gradient, Quantity
from crosscheck.core.slices import Scope, Slicing

Gate: TypeAlias = Literal["i", "f", "g", "o"]
GATES: tuple[Gate, ...] = ("i", "f", "g", "o")
GATE = Scope("gate")
ROW = Scope("row")  # a layer and direction of a state
_GATED = re.compile(r"((?:.*\.)?)(?:weight_ih|weight_hh|bias_ih|bias_hh)((?:_l\d+(?:_reverse)?)?)")


def gate_slicings(params: Mapping[str, np.ndarray]) -> dict[Quantity, Slicing]:
    """Return the slices by gate of the gradient of every LSTM parameter under torch's names, with any prefix.

    Only an LSTM has four times as many rows as its projection, or else its recurrent weight, has columns.
    """
    slicings: dict[Quantity, Slicing] = {}
    for name, value in params.items():
        parts = _GATED.fullmatch(name)
        if parts is not None:
            beside = (params.get(f"{parts[1]}{other}{parts[2]}") for other in ("weight_hr", "weight_hh"))
            columns = [np.shape(a)[1] for a in beside if a is not None and np.ndim(a) == 2]
            if columns and np.shape(value)[:1] == (4 * columns[0],):
                slicings[Gradient(name)] = Slicing(0, GATE, GATES)
    return slicings
