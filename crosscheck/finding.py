"""One judgement, as a frozen value. Formatters (`report`) print it; nothing here does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

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
    where this lane could not decide, what did. ``note`` says what a reader must know.
    """

    quantity: str
    lane: str
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
    rows: Rows | None = field(default=None, repr=False, compare=False)

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
