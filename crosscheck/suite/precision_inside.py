"""What is said about precision inside the two programs: narrow types, and a port that rounds more than torch."""

from __future__ import annotations

from collections.abc import Sequence

from crosscheck.core.finding import Check, Finding, Kind, Outcome, Reason
from crosscheck.core.inside.blame import most_amplified
from crosscheck.core.inside.narrow import CONSTANT, NarrowType
from crosscheck.core.port import Port
from crosscheck.core.problem import Problem
from crosscheck.suite.torch_side import TorchSide
from crosscheck.suite.trial import Trial

MOST = 4  # places that a line names


def type_findings(port: Port, trial: Trial) -> tuple[Finding, ...]:
    """Return a finding if only the port computes in a narrower type than float64.

    A constant that the torch module makes in a narrower type does not count as its computation. A type that a function
    of JAX chose does not count as the port's. An array that the port closes over keeps its dtype.
    """
    own = [place for place in port.narrow if not place.excuse]
    if not own or any(place.excuse != CONSTANT for place in trial.narrow):
        return ()
    text = f"the port computes in {_places(own)}; the torch module does not"
    check = Check(None, Kind.TYPES)
    return (Finding("types inside", check, Outcome.DISAGREE, None, None, note=text, reason=Reason.PRECISION),)


def type_notes(port: Port, trial: Trial) -> list[str]:
    """Return notes about narrower types inside the two programs. The float64 check computed them in float64."""
    notes = []
    if trial.narrow:
        notes.append(f"the torch module computes in {_places(trial.narrow)}")
    if port.narrow and (trial.narrow or all(place.excuse for place in port.narrow)):
        notes.append(f"the port computes in {_places(port.narrow)}")
    if port.carry_is_fixed:
        notes.append("the carry of the port's loop is float32 in any run: its float32 program ran in float64")
    lifted = bool(trial.narrow or port.narrow)
    return notes + ["the float64 check computed these in float64"] * lifted


def inexact_notes(side: TorchSide) -> list[str]:
    """Return notes about operations of torch that are inexact in float64 themselves."""
    return [
        f"torch computes {name} with a relative error of up to {error:.0e} in float64: the limits contain it"
        for name, error in side.inexact.items()
    ]


def less_precise_at(port: Port, problem: Problem, findings: Sequence[Finding], seed: int) -> str:
    """Return where a port rounds more than torch, if every disagreement is of that kind; else ""."""
    bad = [f for f in findings if f.final is Outcome.DISAGREE]
    if not bad or any(f.reason is not Reason.PRECISION for f in bad):
        return ""
    measured = [f for f in bad if f.check.kind is not Kind.TYPES]
    place = most_amplified(port, problem, measured[0].quantity, seed) if measured else None
    if place is None:
        return "the same function, computed in a narrower type: remove the cast, or make it follow the inputs' dtype"
    operation, where = place
    return f"the same function, less precise: the rounding of {operation} at {where} is amplified most"


def _places(places: Sequence[NarrowType]) -> str:
    shown = ", ".join(map(str, places[:MOST]))
    return shown + f" and {len(places) - MOST} more places" * (len(places) > MOST)
