"""The diagnosis of a disagreement: the mistake by name, and the place of the first departure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosscheck.core.errors import OnlyOwnSizes
from crosscheck.core.finding import Finding, Kind, Outcome
from crosscheck.core.judge import PROBE
from crosscheck.core.problem import is_gradient
from crosscheck.diagnosis.first_departure import Departure, first_departure_backward, first_departure_forward
from crosscheck.diagnosis.known_mistakes import find_mistakes
from crosscheck.diagnosis.subject import Subject


@dataclass(frozen=True)
class Diagnosis:
    """What is known about a disagreement.

    Attributes:
      departure: the first departure from the reference; None if it was not found.
      mistakes: sentences that name the mistake.
      trouble: why the diagnosis ended early; "" if it did not.
    """

    departure: Departure | None = None
    mistakes: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The diagnosis for readers."""
        departure = [self.departure.text] if self.departure is not None else []
        return (*self.mistakes, *departure, *filter(None, [self.trouble]))


def diagnose(subject: Subject, findings: Sequence[Finding]) -> Diagnosis:
    """Return the diagnosis. It is empty if nothing disagrees, or if names or shapes do not match."""
    bad = [f for f in findings if f.final is Outcome.DISAGREE]
    if not bad or any(f.norm is None and f.index is None and f.check.kind is not Kind.LINEARITY for f in bad):
        return Diagnosis()
    dtype = "float64" if any(f.check.dtype == "float64" for f in bad) else "float32"
    wrong_output = any(not is_gradient(f.quantity) for f in bad if f.check.dtype == dtype)
    only_nonlinear = all(f.check.kind is Kind.LINEARITY for f in bad)
    mistakes: list[str] = []
    try:
        mistakes = find_mistakes(subject, dtype, 2.0**PROBE if only_nonlinear else 1.0)
        departure = (first_departure_forward if wrong_output else first_departure_backward)(subject, findings, dtype)
    except OnlyOwnSizes as error:
        trouble = f"no further: the implementation does not run on other inputs ({error})"
        return Diagnosis(mistakes=tuple(mistakes), trouble=trouble)
    return Diagnosis(departure, tuple(mistakes))
