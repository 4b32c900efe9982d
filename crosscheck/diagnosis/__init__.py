"""What is wrong with a recurrent port that disagrees: the place of its first departure, and the mistake by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosscheck.core.finding import Finding, Kind, Outcome
from crosscheck.core.judge import PROBE
from crosscheck.core.problem import is_gradient
from crosscheck.diagnosis.first_wrong import Place, backward_place, forward_place
from crosscheck.diagnosis.known_mistakes import matches
from crosscheck.diagnosis.port import Port


@dataclass(frozen=True)
class Diagnosis:
    """place: of the first departure. matches: sentences that say what the port behaves like."""

    place: Place | None
    matches: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        place = [self.place.text] if self.place is not None else []
        return (*self.matches, *place, *filter(None, [self.trouble]))


def diagnose(port: Port, findings: Sequence[Finding]) -> Diagnosis | None:
    """None where nothing disagrees, or where there is nothing to run: names or shapes do not match."""
    bad = [f for f in findings if f.final is Outcome.DISAGREE]
    if not bad or any(f.norm is None and f.index is None and f.check.kind is not Kind.LINEARITY for f in bad):
        return None
    dtype = "float64" if any(f.check.dtype == "float64" for f in bad) else "float32"
    wrong_output = any(not is_gradient(f.quantity) for f in bad if f.check.dtype == dtype)
    lifted = all(f.check.kind is Kind.LINEARITY for f in bad)
    place: Place | None = None
    found: list[str] = []
    trouble = ""
    try:
        found = matches(port, dtype, 2.0**PROBE if lifted else 1.0)
        place = (forward_place if wrong_output else backward_place)(port, findings, dtype)
    except Exception as error:  # a port that runs at its own sizes only
        trouble = f"no further: the port could not be run on other inputs ({(str(error).splitlines() or [''])[0]})"
    return Diagnosis(place, tuple(found), trouble)


__all__ = ["Diagnosis", "Place", "Port", "diagnose"]
