"""Choices inside a torch module of which one forward pass shows only one side, in words, by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


def one_side(name: str, args: Any, kwargs: Any) -> str:
    """Return which side of a choice an operation did not show; "" if it showed both or makes no choice.

    Args:
      name: the name of the operation in ``torch.ops.aten``.
      args: its arguments.
      kwargs: its keyword arguments.
    """
    return _CHOICES[name](args, kwargs) if name in _CHOICES else ""


def _is_data(a: Any) -> bool:
    return isinstance(a, torch.Tensor) and a.numel() > 0


def _is_real(a: Any) -> bool:
    """Return whether there are at least two real numbers. One number has only one sign."""
    return isinstance(a, torch.Tensor) and a.numel() > 1 and not a.is_complex() and a.dtype is not torch.bool


def _where(args: Any, kwargs: Any) -> str:
    return _of_mask("the condition of where is", args[0])


def _masked(args: Any, kwargs: Any) -> str:
    return _of_mask("a mask is", args[1])


def _of_mask(text: str, mask: Any) -> str:
    if not _is_data(mask) or mask.dtype is not torch.bool:
        return ""
    if bool(mask.all()):
        return f"{text} true everywhere"
    return "" if bool(mask.any()) else f"{text} false everywhere"


def _relu(args: Any, kwargs: Any) -> str:
    a = args[0]
    if not _is_real(a) or not a.is_floating_point():
        return ""
    if bool((a > 0).all()):
        return "an activation sees only positive numbers"
    return "an activation sees no positive number" if bool((a <= 0).all()) else ""


def _abs(args: Any, kwargs: Any) -> str:
    a = args[0]
    if not _is_real(a):
        return ""
    if bool((a >= 0).all()):
        return "abs sees no negative number"
    return "abs sees no positive number" if bool((a <= 0).all()) else ""


def _clamp(args: Any, kwargs: Any) -> str:
    a, low, high = (*args, None, None)[:3]
    return _bounded("clamp", a, kwargs.get("min", low), kwargs.get("max", high))


def _clamp_min(args: Any, kwargs: Any) -> str:
    return _bounded("clamp", args[0], args[1], None)


def _clamp_max(args: Any, kwargs: Any) -> str:
    return _bounded("clamp", args[0], None, args[1])


def _hardtanh(args: Any, kwargs: Any) -> str:
    a, low, high = args if len(args) == 3 else (args[0], -1.0, 1.0)
    return _bounded("clamp", a, low, high)


def _bounded(name: str, a: Any, low: Any, high: Any) -> str:
    if not _is_data(a):
        return ""
    unseen = [
        f"the {side} bound"
        for bound, side, beyond in ((low, "lower", torch.lt), (high, "upper", torch.gt))
        if bound is not None and not bool(beyond(a, bound).any())
    ]
    return f"no number is beyond {' or '.join(unseen)} of {name}" if unseen else ""


def _hard(name: str) -> Callable[[Any, Any], str]:
    """Return the rule of an activation that is flat or straight beyond -3 and 3."""
    return lambda args, kwargs: _bounded(f"{name} (-3 and 3)", args[0], -3.0, 3.0)


def _bent_loss(name: str, bend: str) -> Callable[[Any, Any], str]:
    """Return the rule of a loss that is a parabola for small differences, and a line for larger ones."""

    def rule(args: Any, kwargs: Any) -> str:
        at = kwargs.get(bend, args[3] if len(args) > 3 else 1.0)
        sizes = (args[0] - args[1]).abs()
        if not _is_real(sizes) or at <= 0:
            return ""
        if bool((sizes < at).all()):
            return f"no difference in {name} is larger than {bend}"
        return f"no difference in {name} is smaller than {bend}" if bool((sizes >= at).all()) else ""

    return rule


def _winner(name: str) -> Callable[[Any, Any], str]:
    """Return the rule of an elementwise minimum or maximum of two tensors."""
    wins = torch.ge if name == "maximum" else torch.le

    def rule(args: Any, kwargs: Any) -> str:
        first, second = args
        if not (_is_data(first) and _is_data(second)) or max(first.numel(), second.numel()) < 2:
            return ""
        if bool(wins(first, second).all()):
            return f"the first argument of {name} always wins"
        return f"the second argument of {name} always wins" if bool(wins(second, first).all()) else ""

    return rule


def _remainder(args: Any, kwargs: Any) -> str:
    divided, by = args
    if not isinstance(by, torch.Tensor) and by == 1:  # a test for whole numbers, as in torch.distributions
        return ""
    signs = [bool((torch.as_tensor(a) >= 0).all()) for a in (divided, by)]
    return "a remainder is taken only of numbers that are not negative" if _is_data(divided) and all(signs) else ""


def _embedding(args: Any, kwargs: Any) -> str:
    padding = args[2] if len(args) > 2 else -1
    if not isinstance(padding, int) or padding < 0 or bool((args[1] == padding).any()):
        return ""
    return f"no index is the padding index {padding}"


def _bag(args: Any, kwargs: Any) -> str:
    padding = args[8] if len(args) > 8 else -1
    return "" if padding < 0 or bool((args[1] == padding).any()) else f"no index is the padding index {padding}"


def _labels(args: Any, kwargs: Any) -> str:
    weight, ignored = args[2], args[4]
    texts = [] if bool((args[1] == ignored).any()) else [f"no label is the ignored index {ignored}"]
    if weight is not None and bool((weight == weight.flatten()[0]).all()):
        texts.append("all class weights are the same")
    return ", and ".join(texts)


def _index_add(args: Any, kwargs: Any) -> str:
    index = args[2]
    return "" if index.numel() < 2 or len(index.unique()) < index.numel() else "no index of index_add stands twice"


def _branch(args: Any, kwargs: Any) -> str:
    is_branch = args[0].dtype is torch.bool
    return f"the module takes the branch for {bool(args[0])}" if is_branch else ""


_CHOICES: Mapping[str, Callable[[Any, Any], str]] = {
    "where": _where,
    "masked_fill": _masked,
    "masked_fill_": _masked,
    "relu": _relu,
    "relu_": _relu,
    "leaky_relu": _relu,
    "elu": _relu,
    "abs": _abs,
    "abs_": _abs,
    "hardtanh": _hardtanh,
    "hardtanh_": _hardtanh,
    "hardswish": _hard("hardswish"),
    "hardswish_": _hard("hardswish"),
    "hardsigmoid": _hard("hardsigmoid"),
    "hardsigmoid_": _hard("hardsigmoid"),
    "clamp": _clamp,
    "clamp_": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "minimum": _winner("minimum"),
    "maximum": _winner("maximum"),
    "fmin": _winner("minimum"),
    "fmax": _winner("maximum"),
    "remainder": _remainder,
    "fmod": _remainder,
    "smooth_l1_loss": _bent_loss("smooth_l1_loss", "beta"),
    "huber_loss": _bent_loss("huber_loss", "delta"),
    "embedding": _embedding,
    "_embedding_bag": _bag,
    "_embedding_bag_forward_only": _bag,
    "nll_loss_forward": _labels,
    "nll_loss2d_forward": _labels,
    "index_add": _index_add,
    "index_add_": _index_add,
    "_local_scalar_dense": _branch,
}
