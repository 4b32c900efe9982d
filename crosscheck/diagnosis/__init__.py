"""What is wrong with a recurrent port that disagrees: the place of its first departure, and the mistake by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosscheck.diagnosis.matches import matches
from crosscheck.diagnosis.place import Place, backward_place, forward_place
from crosscheck.diagnosis.port import Port
from crosscheck.finding import Finding, Outcome
from crosscheck.problem import is_gradient


@dataclass(frozen=True)
class Diagnosis:
    """place: of the first departure. matches: what the port behaves exactly like, most specific first."""

    place: Place | None
    matches: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        like = [f"behaves exactly like {match}" for match in self.matches]
        place = [self.place.text] if self.place is not None else []
        return (*like, *place, *filter(None, [self.trouble]))


def diagnose(port: Port, findings: Sequence[Finding]) -> Diagnosis | None:
    """None where nothing disagrees, or where there is nothing to run: names or shapes do not match."""
    bad = [f for f in findings if f.final is Outcome.DISAGREE]
    if not bad or any(f.norm is None and f.index is None and not f.lane.endswith("linear") for f in bad):
        return None
    dtype = "float64" if any(f.lane.startswith("A") for f in bad) else "float32"
    lane = [f for f in bad if f.lane.startswith("A" if dtype == "float64" else "B")]
    try:
        if any(not is_gradient(f.quantity) for f in lane):
            place = forward_place(port, findings, dtype)
        else:
            place = backward_place(port, findings, dtype)
        return Diagnosis(place, tuple(matches(port, dtype)))
    except Exception as error:  # a port that runs at its own sizes only
        first = (str(error).splitlines() or [""])[0]
        return Diagnosis(None, trouble=f"no diagnosis: the port could not be run on other inputs ({first})")


__all__ = ["Diagnosis", "Place", "Port", "diagnose"]
