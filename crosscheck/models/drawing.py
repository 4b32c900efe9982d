"""How a random problem is drawn: sizes that differ, numbers that are sometimes difficult, options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
import torch

from crosscheck.models.pair import seeded

T = TypeVar("T")
Rng: TypeAlias = np.random.Generator
UNKIND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "small": lambda x: 1e-3 * x,
    "large": lambda x: 1e3 * x,
    "offset": lambda x: x + 100.0,
    "quantised": lambda x: np.round(2.0 * x) / 2.0,
    "zeros": lambda x: np.where(np.arange(x.shape[-1]) < (x.shape[-1] + 1) // 2, x, 0.0),  # the end is padding
}
GENTLE = ("small", "quantised", "zeros")


def sizes(rng: Rng, count: int, low: int = 2, high: int = 9) -> list[int]:
    """Return ``count`` sizes from ``low`` to ``high``, all of them different."""
    return [int(n) for n in rng.choice(np.arange(low, high + 1), count, replace=False)]


def one_of(rng: Rng, *values: T) -> T:
    """Return one of the values at random."""
    return values[int(rng.integers(len(values)))]


def rarely(rng: Rng, rare: T, usual: T) -> T:
    """Return ``rare`` in one draw of seven, else ``usual``."""
    return rare if rng.random() < 1 / 7 else usual


def numbers(rng: Rng, *shape: int, unkind: tuple[str, ...] = tuple(UNKIND)) -> np.ndarray:
    """Return random normal numbers. One draw in seven is changed in one of the ``unkind`` ways."""
    x = rng.normal(size=shape)
    return rarely(rng, UNKIND[one_of(rng, *unkind)](x), x)


def made(rng: Rng, make: Callable[[], T], spread: float = 0.0) -> T:
    """Return ``make()`` with torch's own initialization under a seed from ``rng``.

    Args:
      rng: gives the seed.
      make: makes a module.
      spread: random normal numbers of this size are added to all parameters and buffers: defaults hide mistakes.
    """
    with seeded(rng):
        module = make()
        if spread and isinstance(module, torch.nn.Module):
            with torch.no_grad():
                for tensor in (*module.parameters(), *module.buffers()):
                    if tensor.is_floating_point():
                        tensor.add_(spread * torch.randn_like(tensor))
                for name, buffer in module.named_buffers():
                    if name.endswith("running_var"):
                        buffer.abs_().add_(0.1)
    return module
