"""One judgement, as a frozen value. Formatters (`report`) print it; nothing here does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np


class Outcome(StrEnum):
    """Only AGREE is success.

    INCONCLUSIVE: the problem amplifies rounding past deciding. VACUOUS: there was nothing to check.
    """

    AGREE = "agree"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"
    DISAGREE = "disagree"


SEVERITY = list(Outcome)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The gravest of them; nothing compared at all is VACUOUS."""
    return max(outcomes, key=SEVERITY.index, default=Outcome.VACUOUS)


Precision = Literal["float64", "float32"]


class Kind(StrEnum):
    """On what a port ran. The value is its word in the name of a lane."""

    DIRECT = ""  # the problem itself
    LINEARITY = "linear"  # cotangents times 2^20, in which a gradient is linear
    LOSS_SCALED = "shifted"  # cotangents times a power of two, if gradients fade
    TEACHER_FORCED = "step"  # windows that start from the reference's states, or single steps of a training
    DAMPED = "calm"  # the whole sequence at smaller recurrent weights
    INPUTS = "premise"  # nothing ran: a check of the inputs
    FAILED = "windows"  # nothing ran: the port takes no other sizes


@dataclass(frozen=True)
class Check:
    """What a lane asks: the dtype in which a port runs, None if nothing ran, and on what; ``steps`` of a window."""

    dtype: Precision | None
    kind: Kind = Kind.DIRECT
    steps: int = 0

    def __str__(self) -> str:
        """The lane's name: "A", "B shifted", "A 4-step"."""
        word = f"{self.steps}-{self.kind}" if self.kind is Kind.TEACHER_FORCED else self.kind
        return " ".join(filter(None, ({"float64": "A", "float32": "B", None: ""}[self.dtype], word)))

    @property
    def stands_in(self) -> bool:
        """Is it another problem, for one that cannot be decided?"""
        return self.kind in (Kind.TEACHER_FORCED, Kind.DAMPED)


FLOAT64, FLOAT32 = Check("float64"), Check("float32")


class Reason(StrEnum):
    """Why two sides disagree where no error can be given in units of a limit."""

    NAMES = "names"  # a quantity that only one side has
    NOT_FINITE = "not finite"  # NaN or inf on one side only


class CouldNotRun(Exception):
    """A side could not compute what was asked, so there is nothing to judge. Exit code 2."""


@dataclass(frozen=True)
class Rows:
    """All slices of a quantity, in order: outcomes as indices into SEVERITY, and error, limit and size in the 2-norm.

    ``rest``: the slices that another lane has not settled. Errors and limits are relative to the size.
    """

    outcomes: np.ndarray
    error: np.ndarray
    limit: np.ndarray
    size: np.ndarray
    rest: np.ndarray

    def count(self, outcome: Outcome) -> int:
        return int(np.sum(self.outcomes == SEVERITY.index(outcome)))


@dataclass(frozen=True)
class Finding:
    """One part of one quantity in one lane, in the norm in which it is nearest to its limit.

    quantity: its name. part: "whole", "apart" (what would outweigh the rest), or the slices' kind: "t", "gate", "row";
    ``slice`` then names the worst of them, and ``counts`` says how many had which outcome. Errors and limits are
    relative to the truth's norm, which is ``norm``. ``index``, ``got`` and ``expected`` are at the largest difference,
    ``first_step`` the first time step beyond its limit (the last one for a gradient, which runs backward). ``settled``:
    where this lane could not decide, what did. ``note`` says what a reader must know. ``own_limit``: the limit is made
    of this side's own error, so that it cannot fail.
    """

    quantity: str
    check: Check
    verdict: Outcome
    error: float | None
    limit: float | None
    part: str = "whole"
    slice: str = ""
    by: str = ""
    norm: float | None = None
    index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    first_step: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    settled: str = ""
    note: str = ""
    reason: Reason | None = None
    own_limit: bool = False
    rows: Rows | None = field(default=None, repr=False, compare=False)

    @property
    def lane(self) -> str:
        """The check's name, for readers."""
        return str(self.check)

    @property
    def ok(self) -> bool:
        return self.verdict is Outcome.AGREE

    @property
    def final(self) -> Outcome:
        """What this counts as: a doubt that another lane has settled is none."""
        return Outcome.AGREE if self.settled else self.verdict

    @property
    def label(self) -> str:
        return f"{self.quantity}[{self.slice}]" if self.slice else self.quantity

    @property
    def ratio(self) -> float:
        """The error in units of its limit."""
        if self.error is None or not self.limit:
            return 0.0 if self.ok else float("inf")
        return self.error / self.limit
