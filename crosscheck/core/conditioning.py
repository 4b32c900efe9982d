"""What is known about one problem before the judgement: the truth, and the parts of the limits of its slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from crosscheck.core.problem import Problem, Quantity, Results
from crosscheck.core.slices import Scope

U32 = 2.0**-24
U64 = 2.0**-53
TINY32 = float(np.finfo(np.float32).tiny)
CHAOS = 1e-3  # of κu and e_ref in float32

ReferenceRun: TypeAlias = Callable[[Problem], Results]


@dataclass(frozen=True)
class Inside:
    """Rounding measured inside the two programs, for one precision check. Arrays are ``[2 norms, rows]``, absolute.

    Attributes:
      reference: the effect on the truth of rounding in the reference's operations.
      port: the effect of rounding in the port's operations; zero if it was not measured.
      constants: the effect of rounding to float32 the constants that the two programs keep, such as buffers.
      spread: how far the truth moved under the errors that were used. If it moved far, the response is not linear and
        says nothing about smaller errors.
      zero: bool: the truth is below its own float64 rounding, such as the gradient of a bias before a softmax.
    """

    reference: np.ndarray
    port: np.ndarray
    constants: np.ndarray
    spread: np.ndarray
    zero: np.ndarray

    @property
    def of_zero(self) -> np.ndarray:
        """The size that rounding may give to a quantity that is zero: each program rounds in its own way."""
        noise: np.ndarray = np.maximum(self.reference, self.port)
        return noise


@dataclass(frozen=True)
class Conditioning:
    """What the limits of the rows of one scope are made of. Arrays are ``[2 norms, rows]``.

    Attributes:
      size: the truth's norm.
      condition: the relative response per relative perturbation.
      response: the absolute response, for a truth of zero, which has no relative one.
      own_error: e_ref, relative, in float32.
      numbers: how many numbers a row has.
      inside: rounding measured inside the programs; None if it was not asked for.
    """

    size: np.ndarray
    condition: np.ndarray
    response: np.ndarray
    own_error: np.ndarray
    numbers: int = 1
    inside: Inside | None = None


@dataclass(frozen=True)
class Reference:
    """The truth of one problem.

    Attributes:
      truth: float64 values by quantity.
      conditioning: the conditioning by quantity and scope.
      outliers: masks of the outliers of those quantities that have some.
      steady: masks of numbers with several known digits: no perturbation moves them by 1e-3 of themselves.
      run: runs the reference in float64 on another problem.
      dtypes: what the narrower paths returned, by quantity.
      unused: names through which the reference has no path to an output, or stops the gradient.
      power: the power of two of the loss scaling.
      loss_scaled: the reference for cotangents times 2^``power``, if gradients fade.
    """

    truth: Results
    conditioning: dict[Quantity, dict[Scope, Conditioning]]
    outliers: dict[Quantity, np.ndarray]
    steady: Mapping[Quantity, np.ndarray] = field(default_factory=dict)
    run: ReferenceRun | None = None
    dtypes: Mapping[Quantity, str] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    power: int = 0
    loss_scaled: Reference | None = None


def is_chaotic(reference: Reference) -> bool:
    """Return whether the problem amplifies rounding so much that some slice cannot be decided."""
    every = (known for scopes in reference.conditioning.values() for known in scopes.values())
    return any(np.any(~(known.condition * U32 <= CHAOS)) for known in every)
