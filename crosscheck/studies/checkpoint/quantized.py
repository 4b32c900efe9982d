"""Weights that torch packs when it quantizes a module dynamically, taken out of the objects that hold them.

A pickle has ``torch.ScriptObject`` with the state ``(content, class)``. A LinearPackedParamsBase has the content
``(weight, bias, ...)``. A CellParamsBase, one per layer and direction of an LSTM, has among other things a list with
two of the former, for the inputs and for h.
"""

from __future__ import annotations

from typing import Any

from crosscheck.studies.checkpoint.pickles import Inert
from crosscheck.studies.checkpoint.records import Tensor


def unpacked(node: Inert) -> dict[str, Any] | None:
    """Return what a packed object holds, by name: "ih" and "hh", or "weight" and "bias". None for any other object."""
    if node.name != "torch.ScriptObject" or not isinstance(node.state, tuple) or len(node.state) != 2:
        return None
    content, kind = node.state
    if not isinstance(content, tuple) or not isinstance(kind, str):
        return None
    if kind.endswith("LinearPackedParamsBase"):
        held = dict(zip(("weight", "bias"), content, strict=False))
        return {name: tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}
    if kind.endswith("CellParamsBase"):
        lists = [part for part in content if isinstance(part, (list, tuple)) and len(part) == 2]
        packed = next((part for part in lists if all(isinstance(item, Inert) for item in part)), ())
        return dict(zip(("ih", "hh"), packed, strict=False))
    return None
