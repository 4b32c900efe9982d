"""The parts of a quantity that are judged: the whole, its slices, and its outliers.

A mask of -1e30 hides every other number of an array in every norm. Therefore outliers are judged separately. They are
numbers that no perturbation of weights, inputs and cotangents moves, and numbers of an output that exceed its median
by a factor of 2^26.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scope:
    """The part of a quantity that a finding is about.

    Attributes:
      name: the name in results.
      noun: what one slice is, in messages.
      in_order: whether the slices follow one another, so that each resembles its neighbours.
    """

    name: str
    noun: str = "slice"
    in_order: bool = False

    def __str__(self) -> str:
        return self.name


WHOLE, OUTLIERS = Scope("whole"), Scope("outliers")
TIME = Scope("t", "time step", in_order=True)
POSITION = Scope("position", "position", in_order=True)


@dataclass(frozen=True)
class Slicing:
    """Equal slices of a quantity along an axis.

    Attributes:
      axis: the axis.
      scope: what the slices are.
      labels: one name per slice. Without labels each index of the axis is one slice.
      used: the number of leading indices that count, if the rest is padding.
    """

    axis: int
    scope: Scope
    labels: tuple[str, ...] = ()
    used: int | None = None

    def rows(self, a: np.ndarray) -> np.ndarray:
        """Return the slices of ``a`` as rows: ``[slices, numbers]``."""
        along = np.moveaxis(a, self.axis, 0)[: self.used]
        return along.reshape(len(self.labels) or along.shape[0], -1)

    def label(self, n: int) -> str:
        """Return the name of slice ``n`` for readers."""
        if self.scope == TIME:
            return f"t={self.step(n)}"
        return f"{self.scope} {self.labels[n] if self.labels else n}"

    def step(self, n: int) -> int:
        """Return the time step of slice ``n``."""
        return int(self.labels[n]) if self.labels else n
