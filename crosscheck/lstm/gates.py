"""The gates of torch's LSTM: their order in a parameter's rows, and the slices of a parameter by gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from crosscheck.core.slices import Scope, Slicing

Gate: TypeAlias = Literal["i", "f", "g", "o"]
GATES: tuple[Gate, ...] = ("i", "f", "g", "o")
GATE = Scope("gate")
ROW = Scope("row")  # a layer and direction of a state
_GATED = re.compile(r"(?:.*\.)?(?:weight_ih|weight_hh|bias_ih|bias_hh)(_l\d+(?:_reverse)?)?")


def gate_slicings(params: Mapping[str, np.ndarray]) -> dict[str, Slicing]:
    """Return the slices by gate of every LSTM parameter under torch's names, with any prefix."""
    slicings = {}
    for name, value in params.items():
        if _GATED.fullmatch(name) is None:
            continue
        hidden = _hidden_size(params, name)
        if hidden is not None and np.shape(value)[0] == 4 * hidden:
            slicings[name] = Slicing(0, GATE, GATES)
    return slicings


def _hidden_size(params: Mapping[str, np.ndarray], name: str) -> int | None:
    """Return H from the recurrent weight or the projection beside ``name``. None if this is no LSTM."""
    recurrent = re.sub(r"(weight_ih|bias_ih|bias_hh)(?=(_l\d+(_reverse)?)?$)", "weight_hh", name)
    projection = params.get(recurrent.replace("weight_hh", "weight_hr"))
    if projection is not None:
        return int(np.shape(projection)[-1])
    weight = params.get(recurrent)
    return int(np.shape(weight)[-1]) if weight is not None and np.ndim(weight) == 2 else None
