"""Checks on the arguments of an operation, for the rules of operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def is_data(a: Any) -> bool:
    """Return whether an argument is a tensor with numbers."""
    return isinstance(a, torch.Tensor) and a.numel() > 0


def is_real(a: Any) -> bool:
    """Return whether an argument is a tensor of at least two real numbers. One number has only one sign."""
    return isinstance(a, torch.Tensor) and a.numel() > 1 and not a.is_complex() and a.dtype is not torch.bool


def filled(args: Sequence[Any], *defaults: Any) -> tuple[Any, ...]:
    """Return the first arguments, as many as there are defaults, with the default of each that was not given."""
    return (*args, *defaults[len(args) :])[: len(defaults)]
