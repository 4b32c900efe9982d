"""What sees every operation of a torch module, its backward pass included: a lift to float64, and rounding.

Both are dispatch modes: they stand below autograd, so that no module needs to know of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from crosscheck.core.inside.operations import (
    ABSOLUTE,
    EXACT_IN_TORCH,
    KNOWN,
    TORCH_ERRORS,
    TORCH_FLOAT32_CONSTANTS,
    contraction,
    roundings,
)
from crosscheck.core.signs import FIRST, SECOND

Around: TypeAlias = Callable[[], AbstractContextManager[Any]]
_SIGNED = tuple(m - 2**64 if m >= 2**63 else m for m in (FIRST, SECOND))  # torch has no unsigned arithmetic
NOTABLE = 100.0  # roundings that one operation counts as, from which on a verdict names it
NARROW = (torch.float32, torch.bfloat16, torch.float16)
_WIDE = {**dict.fromkeys(NARROW, torch.float64), torch.complex64: torch.complex128}
_INEXACT = frozenset({*TORCH_ERRORS, *TORCH_FLOAT32_CONSTANTS})
_PRODUCTS: Mapping[str, tuple[int, int]] = {  # which argument, and which of its axes, is summed over
    "mm": (0, -1),
    "bmm": (0, -1),
    "mv": (0, -1),
    "dot": (0, -1),
    "addmm": (1, -1),
    "addmv": (1, -1),
    "baddbmm": (1, -1),
    "linear": (0, -1),
}


def torch_signs(a: torch.Tensor, seed: int) -> torch.Tensor:
    """Return +1.0 or −1.0 per number of a float64 tensor."""
    bits = (a.contiguous().view(torch.int64) ^ seed) * _SIGNED[0]
    bits = (bits ^ ((bits >> 31) & (2**33 - 1))) * _SIGNED[1]
    return torch.where(bits < 0, -1.0, 1.0).to(torch.float64)


class Lift(TorchDispatchMode):
    """Everything that a module computes in a narrower type is computed in float64.

    The default dtype is float64 meanwhile: torch makes it of a Python number and a bool.
    """

    def __enter__(self) -> Lift:
        """Begin."""
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """End, and restore the default dtype."""
        torch.set_default_dtype(self._default)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation with every narrow dtype and every narrow tensor replaced."""
        args, kwargs = torch.utils._pytree.tree_map(_widen, (args, kwargs or {}))
        return func(*args, **kwargs)


def _widen(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return _WIDE.get(value, value)
    if isinstance(value, torch.Tensor) and value.dtype in _WIDE:
        return value.to(_WIDE[value.dtype])
    return value


class Noise(TorchDispatchMode):
    """Every result that may be rounded is multiplied by 1 ± ``size``.

    Attributes:
      inexact: the error in float64, relative, of the operations that round more than once.
    """

    def __init__(self, size: float, seed: int) -> None:
        super().__init__()
        self.size, self.seed = size, seed
        self.inexact: dict[str, float] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and move its results in place."""
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in EXACT_IN_TORCH:
            return out
        returns = func._schema.returns
        results = out if isinstance(out, tuple | list) and len(returns) == len(out) else (out,)
        for result, described in zip(results, returns, strict=False):
            alias = described.alias_info
            if alias is None or alias.is_write:  # a view shares the numbers of its base
                for tensor in result if isinstance(result, tuple | list) else (result,):
                    self._move(tensor, name, args)
        return out

    def _move(self, tensor: Any, name: str, args: Any) -> None:
        if not isinstance(tensor, torch.Tensor) or tensor.numel() == 0:
            return
        if tensor.dtype is torch.complex128:
            self._move(torch.view_as_real(tensor), name, args)
        elif tensor.dtype is torch.float64:
            signs = torch_signs(tensor, self.seed)
            if name == "_euclidean_dist":
                tensor.copy_(_moved_distance(tensor, args, self.size * signs))
                return
            factor = _factor(name, args, self.size)
            if factor > NOTABLE and name in _INEXACT:
                self.inexact[name] = factor / KNOWN * 2.0**-53
            size = self.size * factor
            extra = self.size * ABSOLUTE.get(name, 0.0)
            tensor.addcmul_(tensor, signs, value=size)
            if extra:
                tensor.add_(signs, alpha=extra)


def _factor(name: str, args: Any, size: float) -> float:
    if name in _PRODUCTS:
        which, axis = _PRODUCTS[name]
        return contraction(args[which].shape[axis])
    if name == "convolution":
        return contraction(math.prod(args[1].shape[1:]))
    if name in TORCH_FLOAT32_CONSTANTS and any(isinstance(a, float) and a != 1.0 for a in args):
        return roundings(TORCH_FLOAT32_CONSTANTS, name, size)
    return roundings(TORCH_ERRORS, name, size)


def _moved_distance(distance: torch.Tensor, args: Any, moves: torch.Tensor) -> torch.Tensor:
    """Return distances that were computed as √(|a|² + |b|² − 2ab), with an error in the sum under the root."""
    a, b = args[0], args[1]
    squares = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]
    return (distance.square() + moves * squares).clamp_min(0.0).sqrt()


@contextmanager
def stacked(modes: Iterable[TorchDispatchMode]) -> Iterator[None]:
    """Enter several modes; the last one sees an operation first."""
    entered = list(modes)
    for mode in entered:
        mode.__enter__()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for mode in reversed(entered):
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
