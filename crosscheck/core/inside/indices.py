"""Indices in a torch module that show only one side of a choice in one forward pass, in words: rules by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from crosscheck.core.inside.operands import filled


def _embedding(args: Any, kwargs: Any) -> str:
    _, indices, padding, by_count = filled(args, None, None, -1, False)
    texts = []
    if isinstance(padding, int) and padding >= 0 and not bool((indices == padding).any()):
        texts.append(f"no index is the padding index {padding}")
    if by_count is True and _differ(indices.flatten()):
        texts.append("no index stands twice, with scale_grad_by_freq")
    return ", and ".join(texts)


def _bag(args: Any, kwargs: Any) -> str:
    padding = filled(args, *(None,) * 8, -1)[8]
    return "" if padding < 0 or bool((args[1] == padding).any()) else f"no index is the padding index {padding}"


def _labels(args: Any, kwargs: Any) -> str:
    weight, ignored = args[2], args[4]
    texts = [] if bool((args[1] == ignored).any()) else [f"no label is the ignored index {ignored}"]
    if weight is not None and bool((weight == weight.flatten()[0]).all()):
        texts.append("all class weights are the same")
    return ", and ".join(texts)


def _differ(index: torch.Tensor, axis: int = 0) -> bool:
    """Return whether an axis has at least two indices, and no index twice."""
    if index.ndim == 0 or index.shape[axis] < 2:
        return False
    ordered = index.sort(axis).values
    return not bool((ordered.diff(dim=axis) == 0).any())


def _twice(name: str) -> Callable[[Any, Any], str]:
    """Return the rule of an operation that adds to places along an axis: ``(self, axis, index, source)``."""

    def rule(args: Any, kwargs: Any) -> str:
        return f"no index of {name} stands twice" if _differ(args[2], args[1] if args[2].ndim > 1 else 0) else ""

    return rule


def _class_weights(args: Any, kwargs: Any) -> str:
    """Say so if the binary cross entropy has weights, of examples or of the positive class, that are all the same."""
    for name, a in zip(("weights", "weights of the positive class"), filled(args, *(None,) * 4)[2:], strict=True):
        if isinstance(a, torch.Tensor) and bool((a == a.flatten()[0]).all()):
            return f"all {name} are the same"
    return ""


def _topk(args: Any, kwargs: Any) -> str:
    a, count, axis = filled(args, None, None, -1)
    return "topk takes every number" if a.ndim and count == a.shape[axis] > 1 else ""


def index_put(args: Any, kwargs: Any) -> str:
    """Return what an addition to chosen places did not show, if no place is chosen twice."""
    adds = filled(args, None, None, None, kwargs.get("accumulate", False))[3]
    indices = [(size, index) for size, index in zip(args[0].shape, args[1], strict=False) if index is not None]
    if not adds or not indices or any(index.dtype is torch.bool for _, index in indices):
        return ""
    places: Any = 0
    for size, index in indices:
        places = places * size + index % size  # a negative index counts from the end
    return "no index of index_put stands twice" if _differ(places.flatten()) else ""


def _grid(args: Any, kwargs: Any) -> str:
    return "" if bool((args[1].abs() > 1).any()) else "no coordinate of grid_sample is outside"


INDICES: Mapping[str, Callable[[Any, Any], str]] = {
    "embedding": _embedding,
    "_embedding_bag": _bag,
    "_embedding_bag_forward_only": _bag,
    "nll_loss_forward": _labels,
    "nll_loss2d_forward": _labels,
    "index_add": _twice("index_add"),
    "scatter_add": _twice("scatter_add"),
    "scatter_reduce": _twice("scatter_reduce"),
    "binary_cross_entropy_with_logits": _class_weights,
    "topk": _topk,
    "grid_sampler_2d": _grid,
    "grid_sampler_3d": _grid,
}
