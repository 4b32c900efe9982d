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
        note = "; ".join(filter(None, (note, f"came back as {got.dtype}")))
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
    if float(np.max(np.abs(truth[finite]), initial=0.0)) < lane.tiny:
        if error <= floor:
            text = "; ".join(filter(None, (note, f"the truth underflows {lane.dtype}: nothing to compare")))
            return Finding(name, lane.name, Outcome.VACUOUS, None, None, norm=size, note=text)
        return _disagreement(problem, name, lane, difference, got, truth, None, None, size, floor, note)
    relative_limit = _relative_limit(reference, name, lane) + floor / size
    relative_error = error / size
    if reference.condition[name] * U32 > CHAOS:
        text = f"κu = {reference.condition[name] * U32:.1e} > {CHAOS:g}: the problem amplifies rounding past deciding"
        return Finding(name, lane.name, Outcome.INCONCLUSIVE, relative_error, relative_limit, norm=size, note=text)
    if relative_error <= relative_limit:
        return Finding(name, lane.name, Outcome.AGREE, relative_error, relative_limit, norm=size, note=note)
    return _disagreement(problem, name, lane, difference, got, truth, relative_error, relative_limit, size, floor, note)


def _relative_limit(reference: Reference, name: str, lane: Lane) -> float:
    known = [reference.condition[name] * lane.unit, math.sqrt(reference.steps) / 4 * lane.unit]
    if lane.uses_own_error:
        known.append(reference.own_error[name])
    return lane.factor * max(known)


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
