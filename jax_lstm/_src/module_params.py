"""Which arrays of a Flax module are the parameters of an LSTM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ENTRY = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(_l\d+(_reverse)?)?")


def feature_size(x: Any) -> int:
    """Return D, the last axis of x. Raise TypeError if x is not an array with at least one axis."""
    if not hasattr(x, "shape") or len(x.shape) < 1:
        raise TypeError(f"x must be an array whose last axis is D; got {type(x).__name__}.")
    return int(x.shape[-1])


def is_ours(module: object) -> bool:
    """Return whether the class of a module is defined in this package, and is not a user's subclass."""
    return type(module).__module__.partition(".")[0] == __name__.partition(".")[0]


def state_dict_entries(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that have a name of a torch state dict. A subclass may declare other entries."""
    return {name: value for name, value in tree.items() if _ENTRY.fullmatch(name)}
