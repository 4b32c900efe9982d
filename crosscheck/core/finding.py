"""One judgement, as a frozen value. `crosscheck.report` shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from crosscheck.core.problem import Quantity
from crosscheck.core.slices import WHOLE, Scope


class Outcome(StrEnum):
    """The outcome of a check. Only AGREE is success. Each member equals its text, such as "agree".

    Attributes:
      AGREE: rounding explains every difference.
      VACUOUS: there was nothing to check.
      INCONCLUSIVE: the problem amplifies rounding so much that nothing can be decided.
      DISAGREE: rounding does not explain some difference.

    Examples:
      >>> import crosscheck
      >>> [str(outcome) for outcome in crosscheck.Outcome]
      ['agree', 'vacuous', 'inconclusive', 'disagree']
      >>> crosscheck.Outcome.AGREE == "agree"
      True
    """

    AGREE = "agree"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"
    DISAGREE = "disagree"


SEVERITY = list(Outcome)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the gravest outcome. If nothing was compared, this is VACUOUS."""
    return max(outcomes, key=SEVERITY.index, default=Outcome.VACUOUS)


Precision = Literal["float64", "float32", "bfloat16", "float16"]


class Kind(StrEnum):
    """What a precision check runs. The value is its name in results."""

    DIRECT = "direct"  # the problem itself
    LINEARITY = "linearity"  # cotangents times 2^20: a gradient is linear in them
    LOSS_SCALED = "loss-scaled"  # cotangents times a power of two, if gradients fade
    TEACHER_FORCED = (
        "teacher-forced"  # short stretches, or single training steps, that start from the reference's state
    )
    DAMPED = "damped"  # the whole sequence with smaller recurrent weights
    INPUTS = "inputs"  # nothing ran: a check of the inputs
    TYPES = "types"  # nothing ran: which types the two programs compute in
    FAILED = "other sizes"  # nothing ran: the implementation runs only at its own sizes


@dataclass(frozen=True)
class Check:
    """A precision check: the dtype in which an implementation runs, and what it runs.

    Attributes:
      dtype: None if nothing ran.
      kind: what ran.
      steps: the length of a teacher-forced stretch.
    """

    dtype: Precision | None
    kind: Kind = Kind.DIRECT
    steps: int = 0

    def __str__(self) -> str:
        """Return the name: "float64", "float32 loss-scaled", "float64 4-step"."""
        what = f"{self.steps}-step" if self.kind is Kind.TEACHER_FORCED else str(self.kind)
        return " ".join(filter(None, (self.dtype, what if self.kind is not Kind.DIRECT else "")))

    @property
    def stands_in(self) -> bool:
        """Whether it runs another problem, in place of one that cannot be decided."""
        return self.kind in (Kind.TEACHER_FORCED, Kind.DAMPED)


FLOAT64, FLOAT32 = Check("float64"), Check("float32")


class Reason(StrEnum):
    """Why two results disagree if no error can be given in units of a limit."""

    NAMES = "names"  # only one of the two has the quantity
    NOT_FINITE = "not finite"  # NaN or inf in only one of the two
    PRECISION = "precision"  # the same function, which the port computes less precisely
    DTYPE = "dtype"  # another dtype than expected


class Grounds(StrEnum):
    """Why a finding agrees, if its limit does not say why."""

    ZERO = "zero within rounding"  # the truth is below its own rounding
    CONSTANTS = "rounded constants"  # within the rounding to float32 of constants that the two programs keep
    INTEGERS = "narrow integers"  # the port's have fewer bits than the reference's


class CouldNotRun(Exception):
    """The error that an implementation cannot compute what was asked, so that there is nothing to judge.

    The command ends with exit code 2.

    Examples:
      >>> import numpy as np
      >>> import torch
      >>> import crosscheck
      >>> try:
      ...     crosscheck.check(lambda params, x: x[0], torch.nn.Identity(), {}, (np.ones((2, 3)),))
      ... except crosscheck.CouldNotRun as error:
      ...     print(error)
      'output 0' has shape (3,) from the JAX function and (2, 3) from the torch module.
    """


@dataclass(frozen=True)
class Settlement:
    """What decided slices that a check could not decide.

    Attributes:
      by: the checks that decided; empty if the implementation is itself the float64 truth.
      slices: how many slices it decided.
      of: how many slices there are.
    """

    by: tuple[Check, ...]
    slices: int
    of: int


@dataclass(frozen=True)
class Rows:
    """All slices of a quantity, in order.

    Attributes:
      outcomes: ``[slices]``, indices into ``SEVERITY``.
      error: ``[slices]``, in the 2-norm, relative to ``size``.
      limit: ``[slices]``, in the 2-norm, relative to ``size``.
      size: ``[slices]``, the 2-norm of the truth.
      rest: ``[slices]`` bool: neither agreed, nor settled by another check.
      explained: ``[slices]`` bool: rounding that was measured inside the reference explains the error, however large
        it is.
      reach: ``[slices]``, the largest error of one number that agrees, absolute.
    """

    outcomes: np.ndarray
    error: np.ndarray
    limit: np.ndarray
    size: np.ndarray
    rest: np.ndarray
    explained: np.ndarray
    reach: np.ndarray

    def count(self, outcome: Outcome) -> int:
        """Return the number of slices with that outcome."""
        return int(np.sum(self.outcomes == SEVERITY.index(outcome)))


@dataclass(frozen=True)
class Finding:
    """One quantity in one precision check: the whole, its outliers, or its slices.

    A finding describes the norm, and the slice, that is nearest to its limit. Errors and limits are relative to the
    norm of the truth.

    Attributes:
      quantity: the name of an output, or a `crosscheck.Gradient`.
      check: the precision check.
      verdict: the outcome of this check.
      error: the relative error, or None if there is none.
      limit: the largest error that agrees, or None if there is none.
      scope: the part of the quantity that was judged.
      slice: the slice that is described.
      by: the norm.
      norm: the norm of the truth.
      index: the place of the largest difference.
      got: the port's number at `index`.
      expected: the truth's number at `index`.
      first_step: the first time step beyond its limit. For a gradient, which runs backward, it is the last one.
      counts: the number of slices by outcome.
      settled_by: what decided the slices that this check could not decide, if all of them are decided.
      note: what a reader must know.
      reason: why it disagrees if there is no error.
      own_limit: whether the limit is made of this implementation's own error, so that it cannot fail.
      grounds: why it agrees if the limit of its size does not say so.
      too_small: how many numbers of the truth are so small beside the others that zeros in their place would agree.
      rows: all slices.

    Examples:
      >>> import numpy as np
      >>> import torch
      >>> import crosscheck
      >>> verdict = crosscheck.check(lambda params, x: 2 * x, torch.nn.Identity(), {}, (np.ones((2, 3)),))
      >>> finding = verdict.findings[0]
      >>> finding.label, str(finding.check), finding.got, finding.expected
      ('output 0', 'float64', 2.0, 1.0)
    """

    quantity: Quantity
    check: Check
    verdict: Outcome
    error: float | None
    limit: float | None
    scope: Scope = WHOLE
    slice: str = ""
    by: str = ""
    norm: float | None = None
    index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    first_step: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    settled_by: tuple[Settlement, ...] = ()
    note: str = ""
    reason: Reason | None = None
    own_limit: bool = False
    grounds: Grounds | None = None
    too_small: int = 0
    rows: Rows | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether this check agrees."""
        return self.verdict is Outcome.AGREE

    @property
    def final(self) -> Outcome:
        """The outcome that counts in a verdict. It is AGREE if other checks settled what this one could not decide."""
        return Outcome.AGREE if self.settled_by else self.verdict

    @property
    def label(self) -> str:
        """The quantity and the slice, for readers."""
        return f"{self.quantity}[{self.slice}]" if self.slice else str(self.quantity)

    @property
    def ratio(self) -> float:
        """The error in units of its limit."""
        if self.error is None or not self.limit:
            return 0.0 if self.ok else float("inf")
        return self.error / self.limit
