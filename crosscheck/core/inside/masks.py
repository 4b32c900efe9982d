"""Masks in a torch module that have no effect in one forward pass, in words: rules by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from crosscheck.core.inside.operands import is_data


def _where(args: Any, kwargs: Any) -> str:
    return _of_mask("the condition of where is", args[0])


def _masked(args: Any, kwargs: Any) -> str:
    return _of_mask("a mask is", args[1])


def _both_masks(args: Any, kwargs: Any) -> str:
    """Return what an "and" of masks did not show, such as a window that is shorter than the input."""
    return _without_effect('"and"', args, torch.all, "true")


def _either_mask(args: Any, kwargs: Any) -> str:
    return _without_effect('"or"', args, lambda mask: ~mask.any(), "false")


def _times_mask(args: Any, kwargs: Any) -> str:
    return _without_effect("a product", args, torch.all, "true")


def chosen(args: Any, kwargs: Any) -> str:
    """Return what a choice of numbers by a mask did not show, such as ``a[mask]``."""
    masks = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    texts = [_of_mask("a mask that chooses numbers is", mask) for mask in masks]
    return next(filter(None, texts), "")


def _without_effect(name: str, args: Any, is_so: Callable[[torch.Tensor], Any], value: str) -> str:
    masks = [a for a in args if is_data(a) and a.dtype is torch.bool and a.numel() > 1]
    return f"a mask in {name} is {value} everywhere" if any(bool(is_so(mask)) for mask in masks) else ""


def _triangle(name: str) -> Callable[[Any, Any], str]:
    """Return the rule of tril or triu. It shows nothing if it keeps every number."""
    keep = getattr(torch, name)

    def rule(args: Any, kwargs: Any) -> str:
        a = args[0]
        ones = torch.ones(a.shape[-2:], dtype=torch.bool)
        kept = keep(ones, *args[1:], **kwargs)
        return f"{name} keeps every number" if ones.numel() > 1 and bool(kept.all()) else ""

    return rule


def _of_mask(text: str, mask: Any) -> str:
    if not is_data(mask) or mask.dtype is not torch.bool:
        return ""
    if bool(mask.all()):
        return f"{text} true everywhere"
    return "" if bool(mask.any()) else f"{text} false everywhere"


MASKS: Mapping[str, Callable[[Any, Any], str]] = {
    "where": _where,
    "masked_fill": _masked,
    "index": chosen,
    "masked_select": chosen,
    "masked_scatter": chosen,
    "bitwise_and": _both_masks,
    "logical_and": _both_masks,
    "__and__": _both_masks,
    "bitwise_or": _either_mask,
    "logical_or": _either_mask,
    "__or__": _either_mask,
    "mul": _times_mask,
    "tril": _triangle("tril"),
    "triu": _triangle("triu"),
}
