"""Bent functions in a torch module whose two sides one forward pass does not both show: rules by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from crosscheck.core.inside.operands import filled, is_data, is_real

OneSide: TypeAlias = Callable[[Any, Any], str]  # (args, kwargs) -> which side was not shown; "" if both were


def _activation(args: Any, kwargs: Any) -> str:
    a = args[0]
    if not is_real(a) or not a.is_floating_point():
        return ""
    if bool((a > 0).all()):
        return "an activation sees only positive numbers"
    return "an activation sees no positive number" if bool((a <= 0).all()) else ""


def _abs(args: Any, kwargs: Any) -> str:
    a = args[0]
    if not is_real(a):
        return ""
    if bool((a >= 0).all()):
        return "abs sees no negative number"
    return "abs sees no positive number" if bool((a <= 0).all()) else ""


def _clamp(args: Any, kwargs: Any) -> str:
    a, low, high = filled(args, None, None, None)
    return _bounded("clamp", a, kwargs.get("min", low), kwargs.get("max", high))


def _clamp_min(args: Any, kwargs: Any) -> str:
    return _bounded("clamp", args[0], args[1], None)


def _clamp_max(args: Any, kwargs: Any) -> str:
    return _bounded("clamp", args[0], None, args[1])


def _hardtanh(args: Any, kwargs: Any) -> str:
    a, low, high = filled(args, None, -1.0, 1.0)
    return _bounded("clamp", a, low, high)


def _bounded(name: str, a: Any, low: Any, high: Any) -> str:
    if not is_data(a):
        return ""
    unseen = [
        f"the {side} bound"
        for bound, side, beyond in ((low, "lower", torch.lt), (high, "upper", torch.gt))
        if bound is not None and not bool(beyond(a, bound).any())
    ]
    return f"no number is beyond {' or '.join(unseen)} of {name}" if unseen else ""


def _hard(name: str) -> OneSide:
    """Return the rule of an activation that is flat or straight beyond -3 and 3."""
    return lambda args, kwargs: _bounded(f"{name} (-3 and 3)", args[0], -3.0, 3.0)


def _either(text: str, mask: torch.Tensor) -> str:
    """Return a line if no number, or every number, has a property; "" if some have it and some do not."""
    if not mask.numel() or bool(mask.any()) != bool(mask.all()):
        return ""
    return f"{'every' if bool(mask.all()) else 'no'} number is {text}"


def _shrink(name: str) -> OneSide:
    """Return the rule of an activation that is zero between -λ and λ."""

    def rule(args: Any, kwargs: Any) -> str:
        a, width = filled(args, None, 0.5)
        return _either(f"between the bounds of {name}", a.abs() <= width)

    return rule


def _threshold(args: Any, kwargs: Any) -> str:
    return _either("beyond the bound of threshold", args[0] > args[1])


def _softplus(args: Any, kwargs: Any) -> str:
    """Say so if softplus shows one side of its threshold. The default one is left out: few numbers come so far."""
    a, beta, threshold = filled(args, None, 1.0, 20.0)
    return "" if (beta, threshold) == (1, 20) else _either("beyond the threshold of softplus", a * beta > threshold)


def _bent_loss(name: str, bend: str) -> OneSide:
    """Return the rule of a loss that is a parabola for small differences, and a line for larger ones."""

    def rule(args: Any, kwargs: Any) -> str:
        first, second, _, at = filled(args, None, None, 1, 1.0)
        at, sizes = kwargs.get(bend, at), (first - second).abs()
        if not is_real(sizes) or at <= 0:
            return ""
        if bool((sizes < at).all()):
            return f"no difference in {name} is larger than {bend}"
        return f"no difference in {name} is smaller than {bend}" if bool((sizes >= at).all()) else ""

    return rule


def _winner(name: str) -> OneSide:
    """Return the rule of an elementwise minimum or maximum of two tensors."""
    wins = torch.ge if name == "maximum" else torch.le

    def rule(args: Any, kwargs: Any) -> str:
        first, second = args
        if not (is_data(first) and is_data(second)):
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
    return "a remainder is taken only of numbers that are not negative" if is_data(divided) and all(signs) else ""


def _division(args: Any, kwargs: Any) -> str:
    """Say so if no quotient is negative: rounding towards zero and downwards are then the same."""
    if kwargs.get("rounding_mode") is None:
        return ""
    negative = torch.as_tensor(args[0]) / torch.as_tensor(args[1]) < 0
    return "" if bool(negative.any()) else "a division that rounds sees no negative quotient"


def _truncated(name: str) -> OneSide:
    def rule(args: Any, kwargs: Any) -> str:
        return "" if not is_real(args[0]) or bool((args[0] < 0).any()) else f"{name} sees no negative number"

    return rule


def _atan2(args: Any, kwargs: Any) -> str:
    return "atan2 sees no negative second argument" if is_real(args[1]) and not bool((args[1] < 0).any()) else ""


def _finite(args: Any, kwargs: Any) -> str:
    return "nan_to_num sees only finite numbers" if bool(args[0].isfinite().all()) else ""


SIDES: Mapping[str, OneSide] = {
    "relu": _activation,
    "leaky_relu": _activation,
    "elu": _activation,
    "celu": _activation,
    "_prelu_kernel": _activation,
    "abs": _abs,
    "hardtanh": _hardtanh,
    "hardswish": _hard("hardswish"),
    "hardsigmoid": _hard("hardsigmoid"),
    "softshrink": _shrink("softshrink"),
    "hardshrink": _shrink("hardshrink"),
    "threshold": _threshold,
    "softplus": _softplus,
    "clamp": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "minimum": _winner("minimum"),
    "maximum": _winner("maximum"),
    "fmin": _winner("minimum"),
    "fmax": _winner("maximum"),
    "remainder": _remainder,
    "fmod": _remainder,
    "div": _division,
    "floor_divide": lambda args, kwargs: _division(args, {"rounding_mode": "floor"}),
    "trunc": _truncated("trunc"),
    "floor": _truncated("floor"),
    "atan2": _atan2,
    "nan_to_num": _finite,
    "smooth_l1_loss": _bent_loss("smooth_l1_loss", "beta"),
    "huber_loss": _bent_loss("huber_loss", "delta"),
}
