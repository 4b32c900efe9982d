"""One quantity's outcome, as a frozen value. Formatters (`report`) print it; nothing here does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Only AGREE is success.

    INCONCLUSIVE: the problem amplifies rounding past deciding. VACUOUS: there was nothing to check.
    """

    AGREE = "agree"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"
    DISAGREE = "disagree"


_SEVERITY = list(Outcome)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The gravest of them; nothing compared at all is VACUOUS."""
    return max(outcomes, key=_SEVERITY.index, default=Outcome.VACUOUS)


class CouldNotRun(Exception):
    """A side could not compute what was asked, so there is nothing to judge. Exit code 2."""


@dataclass(frozen=True)
class Finding:
    """One quantity in one lane. Errors and limits are relative to the truth's norm, which is ``norm``.

    ``index``, ``got`` and ``expected`` are at the largest difference, ``first_step`` the first time step beyond
    the limit (the last one for a gradient, which runs backward). ``note`` says what a reader must know.
    """

    quantity: str
    lane: str
    verdict: Outcome
    error: float | None
    limit: float | None
    norm: float | None = None
    index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    first_step: int | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict is Outcome.AGREE

    @property
    def ratio(self) -> float:
        """The error in units of its limit."""
        if self.error is None or not self.limit:
            return 0.0 if self.ok else float("inf")
        return self.error / self.limit
