"""The criterion: is the port's error explained by rounding, given the condition of the problem?

    ‖port − truth64‖ ≤ K · max(e_ref, κu, (√T/4)·u) · ‖truth64‖ + K · tiny · √n

Lane A ("meaning"): the port in float64, u = 2^-53, no e_ref, K = 64; separates a wrong function from rounding by seven
decades. Lane B ("precision"): the port in float32, u = 2^-24, K = 8; sees TF32, bfloat16 and dtype leaks. Where κu is
over 1e-3 in float32, nothing can be decided: INCONCLUSIVE. Where the truth is under the smallest normal number of the
lane's dtype there is nothing to compare: VACUOUS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crosscheck.finding import Finding, Outcome
from crosscheck.problem import Arrays, Problem
from crosscheck.reference import U32, U64, Reference, norm

CHAOS = 1e-3


@dataclass(frozen=True)
class Lane:
    name: str
    dtype: str
    unit: float
    factor: float
    uses_own_error: bool

    @property
    def tiny(self) -> float:
        return float(np.finfo(self.dtype).tiny)


LANES = {"A": Lane("A", "float64", U64, 64.0, False), "B": Lane("B", "float32", U32, 8.0, True)}


def compare(problem: Problem, reference: Reference, result: Arrays, lane: Lane, note: str = "") -> list[Finding]:
    """One finding a quantity, in the truth's order; names on one side only are findings too."""
    result = problem.with_slices(result)
    findings = [
        _judge(problem, reference, name, result[name], lane, note)
        if name in result
        else Finding(name, lane.name, Outcome.DISAGREE, None, None, note="missing from the port's results")
        for name in reference.truth
    ]
    extra = [name for name in result if name not in reference.truth]
    return findings + [
        Finding(name, lane.name, Outcome.DISAGREE, None, None, note="the reference has no such quantity")
        for name in extra
    ]


def _judge(problem, reference, name, got, lane, note) -> Finding:
    truth = reference.truth[name]
    if np.shape(got) != np.shape(truth):
        text = f"shape {np.shape(got)}, expected {np.shape(truth)}"
        return Finding(name, lane.name, Outcome.DISAGREE, None, None, note=text)
    if str(got.dtype) != lane.dtype:
        note = _joined(note, f"came back as {got.dtype}")
    got = np.asarray(got, np.float64)
    odd = _nonfinite_mismatch(got, truth)
    if odd is not None:
        text = "NaN or inf where the truth has none, or the reverse"
        return Finding(
            name, lane.name, Outcome.DISAGREE, None, None, index=odd, got=float(got[odd]), expected=float(truth[odd]),
            note=text,
        )  # fmt: skip
    finite = np.isfinite(truth)
    difference = np.where(finite, got - np.where(finite, truth, 0.0), 0.0)
    size, error = norm(truth[finite]), norm(difference)
    floor = lane.factor * lane.tiny * math.sqrt(truth.size)
    at = (problem, name, lane, difference, got, truth)
    if not math.isfinite(size + error):
        text = _joined(note, "the norm overflows float64")
        return Finding(name, lane.name, Outcome.INCONCLUSIVE, None, None, note=text)
    if float(np.max(np.abs(truth[finite]), initial=0.0)) < lane.tiny:
        floor += lane.factor * lane.unit * reference.response[name]
        if error <= floor:
            text = f"the truth underflows {lane.dtype}, or is zero: nothing to compare"
            return Finding(name, lane.name, Outcome.VACUOUS, None, None, norm=size, note=_joined(note, text))
        text = f"the truth is zero; difference {error:.1e}, absolute limit {floor:.1e}"
        return _disagreement(*at, None, None, size, floor, _joined(note, text))
    known, limit = _known(reference, problem, name, lane), floor / size
    limit += lane.factor * max(known.values())
    doubt = _doubt(reference, name, lane, known, floor / size)
    relative_error = error / size
    if doubt is not None:
        outcome, text = doubt
        return Finding(name, lane.name, outcome, relative_error, limit, norm=size, note=_joined(note, text))
    if relative_error <= limit:
        return Finding(name, lane.name, Outcome.AGREE, relative_error, limit, norm=size, note=note)
    return _disagreement(*at, relative_error, limit, size, floor, note)


def _known(reference: Reference, problem: Problem, name: str, lane: Lane) -> dict[str, float]:
    """What explains an error: the terms whose maximum, times K, is the limit."""
    known = {"κu": reference.condition[name] * lane.unit, "√T/4·u": math.sqrt(problem.steps) / 4 * lane.unit}
    if lane.uses_own_error:
        known["e_ref"] = reference.own_error[name]
    return known


def _doubt(reference, name, lane, known, relative_floor) -> tuple[Outcome, str] | None:
    """Why no verdict can be given, if that is so: a limit so wide that a wrong program would be within it."""
    roundings = reference.condition[name] * U32
    if not roundings <= CHAOS:
        text = f"κu = {roundings:.1e} > {CHAOS:g}: the problem amplifies rounding past deciding"
        if roundings > 0.1:
            text += "; or the quantity is zero but for cancellation, then leave it out"
        return Outcome.INCONCLUSIVE, text
    if lane.uses_own_error and not known["e_ref"] <= CHAOS:
        text = f"e_ref = {known['e_ref']:.1e} > {CHAOS:g}: the reference itself is that far off in {lane.dtype}"
        return Outcome.INCONCLUSIVE, text
    if relative_floor > lane.factor * CHAOS:
        return Outcome.VACUOUS, f"the truth is within rounding of the smallest {lane.dtype}: too little to compare"
    return None


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _disagreement(problem, name, lane, difference, got, truth, error, limit, size, floor, note):
    index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(difference)), difference.shape))
    return Finding(
        name,
        lane.name,
        Outcome.DISAGREE,
        error,
        limit,
        norm=size,
        index=index,
        got=float(got[index]),
        expected=float(truth[index]),
        first_step=_first_step(problem, name, difference, truth, limit or 0.0, floor),
        note=note,
    )


def _first_step(problem, name, difference, truth, limit, floor):
    """The first step whose own relative error is over the limit, in the direction in which the quantity is computed."""
    base = name.removeprefix("grad ")
    axis = problem.time_axes.get(name)
    if axis is None:
        return None
    steps = range(difference.shape[axis])
    for t in steps if base == name else reversed(steps):
        if norm(np.take(difference, t, axis)) > limit * norm(np.take(truth, t, axis)) + floor:
            return t
    return None


def _nonfinite_mismatch(got, truth):
    same = (np.isnan(got) == np.isnan(truth)) & ((got == truth) | np.isfinite(got) | np.isnan(got))
    same &= np.isfinite(got) == np.isfinite(truth)
    if same.all():
        return None
    return tuple(int(i) for i in np.argwhere(~same)[0])
