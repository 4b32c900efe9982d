"""Weights that torch packs when it quantizes a module dynamically, taken out of the objects that hold them.

A pickle has ``torch.ScriptObject`` with the state ``(content, class)``. A LinearPackedParamsBase has the content
``(weight, bias, ...)``. A CellParamsBase, of which an LSTM has one per layer and direction, has among other things a
list with two LinearPackedParamsBase, for the inputs and for h.
"""

from __future__ import annotations

from typing import Any

from crosscheck.studies.checkpoint.pickles import Inert
from crosscheck.studies.checkpoint.records import Tensor


def unpack(node: Inert) -> dict[str, Any] | None:
    """Return what a packed object holds, by name: "ih" and "hh", or "weight" and "bias". None for any other object."""
    if node.name != "torch.ScriptObject" or not isinstance(node.state, tuple) or len(node.state) != 2:
        return None
    content, kind = node.state
    if not isinstance(content, tuple) or not isinstance(kind, str):
        return None
    if kind.endswith("LinearPackedParamsBase"):
        parts = dict(zip(("weight", "bias"), content, strict=False))
        return {name: tensor for name, tensor in parts.items() if isinstance(tensor, Tensor)}
    if kind.endswith("CellParamsBase"):
        pairs = [part for part in content if isinstance(part, (list, tuple)) and len(part) == 2]
        packed = next((pair for pair in pairs if all(isinstance(item, Inert) for item in pair)), ())
        return dict(zip(("ih", "hh"), packed, strict=False))
    return None
