"""Choices inside a torch module whose two sides one forward pass does not both show, in words."""

from __future__ import annotations

from typing import Any

import torch

from crosscheck.core.inside.indices import INDICES, index_put
from crosscheck.core.inside.masks import MASKS, chosen
from crosscheck.core.inside.sides import SIDES

_OTHER_CALL = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)  # in a way that a rule does not know


def one_side(name: str, args: Any, kwargs: Any) -> str:
    """Return which side of a choice an operation did not show; "" if it showed both or makes no choice.

    Args:
      name: the name of the operation in ``torch.ops.aten``. In place, it ends in "_".
      args: its arguments.
      kwargs: its keyword arguments.
    """
    rule = _CHOICES.get(name) or _CHOICES.get(name.removesuffix("_"))
    try:
        return rule(args, kwargs) if rule else ""
    except _OTHER_CALL:
        return ""


def _branch(args: Any, kwargs: Any) -> str:
    if args[0].dtype is torch.bool:
        return f"the branch for {bool(args[0])} is taken"
    is_number = args[0].is_floating_point()  # an integer is often a length
    return "a number is read from a tensor: a branch on it shows one side" if is_number else ""


def _put(args: Any, kwargs: Any) -> str:
    return chosen(args, kwargs) or index_put(args, kwargs)


_CHOICES = {**MASKS, **SIDES, **INDICES, "index_put": _put, "_local_scalar_dense": _branch}
