"""The criterion: is the port's error explained by rounding, given the condition of the problem?

    ‖port − truth64‖ ≤ K · max(e_ref, κu, (√T/4)·u) · ‖truth64‖ + K · tiny · √n        (without √n in the max-norm)

for every quantity and every slice of it, in the 2-norm and in the max-norm. Lane A ("meaning"): the port in float64,
u = 2^-53, K = 64; separates a wrong function from rounding by seven decades. Lane B ("precision"): the port in float32,
u = 2^-24, K = 8; sees TF32, bfloat16 and dtype leaks. e_ref is measured in float32, and scaled by 2^-29 in lane A: what
a saturated gate's own rounding does over thousands of steps is in no perturbation of its inputs, and so not in κ.

Where κu, or in lane B e_ref, is over 1e-3 in float32, nothing can be decided: INCONCLUSIVE. Where the truth is under
the smallest normal number of the lane's dtype there is nothing to compare: VACUOUS. NaN and inf must stand at the same
positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crosscheck.core.finding import FLOAT32, FLOAT64, SEVERITY, Check, Finding, Outcome, Precision, Reason, Rows
from crosscheck.core.norms import NORMS, row_norms
from crosscheck.core.problem import Arrays, Problem, is_gradient
from crosscheck.core.reference import CHAOS, U32, U64, Known, Reference, cut_up, difference
from crosscheck.core.slices import APART, WHOLE, Cut

OWN_LIMIT = "cannot fail: e_ref, which sets this limit, is this side's own error"
MADE_UP = 2**10  # times what rounding near the smallest number may do: beyond, a port's "nothing" is something
_AGREE, _VACUOUS, _INCONCLUSIVE, _DISAGREE = range(len(SEVERITY))


@dataclass(frozen=True)
class Lane:
    """check: what it asks. unit: u of its dtype. factor: K. chaos: the rounding that, amplified past 1e-3, leaves
    nothing to decide. own_limit: e_ref is the error of the very side that is judged.
    """

    check: Check
    unit: float
    factor: float
    chaos: float = U32
    own_limit: bool = False

    @property
    def name(self) -> str:
        return str(self.check)

    @property
    def dtype(self) -> Precision:
        assert self.check.dtype is not None
        return self.check.dtype

    @property
    def tiny(self) -> float:
        return float(np.finfo(self.dtype).tiny)


LANES = {"A": Lane(FLOAT64, U64, 64.0), "B": Lane(FLOAT32, U32, 8.0)}


def compare(problem: Problem, reference: Reference, result: Arrays, lane: Lane, note: str = "") -> list[Finding]:
    """One finding for each part of each quantity, in the truth's order; names on one side only are findings too."""
    findings: list[Finding] = []
    for name, truth in reference.truth.items():
        if name not in result:
            findings.append(_refused(name, lane, "missing from the port's results", reason=Reason.NAMES))
        elif np.shape(result[name]) != np.shape(truth):
            findings.append(_refused(name, lane, f"shape {np.shape(result[name])}, expected {np.shape(truth)}"))
        else:
            findings += _Quantity(problem, reference, name, result[name], lane, note).findings()
    extra = [name for name in result if name not in reference.truth]
    unknown = "the reference has no such quantity"
    return findings + [_refused(name, lane, unknown, reason=Reason.NAMES) for name in extra]


def _refused(name, lane, text, **where):
    return Finding(name, lane.check, Outcome.DISAGREE, None, None, note=text, **where)


class _Quantity:
    """One quantity of the port against the truth."""

    def __init__(self, problem: Problem, reference: Reference, name: str, got: np.ndarray, lane: Lane, note: str):
        self.problem, self.reference, self.name, self.lane = problem, reference, name, lane
        self.note = _joined(note, OWN_LIMIT * lane.own_limit)
        self.dtype = got.dtype
        self.got = np.asarray(got, np.float64)
        self.truth = reference.truth[name]
        self.cut: Cut | None = problem.cuts.get(name)

    def findings(self) -> list[Finding]:
        if self.truth.dtype.kind in "biu":
            return [self._exactly()]
        odd = _nonfinite_mismatch(self.got, self.truth)
        if odd is not None and self._overflows():
            text = f"the reference itself is not finite in {self.lane.dtype}"
            return [Finding(self.name, self.lane.check, Outcome.INCONCLUSIVE, None, None, note=text)]
        if odd is not None:
            at = {"index": odd, "got": float(self.got[odd]), "expected": float(self.truth[odd])}
            text = "NaN or inf where the truth has none, or the reverse"
            return [_refused(self.name, self.lane, text, reason=Reason.NOT_FINITE, **at)]
        found = []
        if str(self.dtype) != self.lane.dtype:
            found.append(_refused(self.name, self.lane, f"came back as {self.dtype}, in a run in {self.lane.dtype}"))
        self.off = difference(self.got, self.truth)
        for part, rows in cut_up(self.off, self.cut, self.reference.apart.get(self.name)).items():
            found.append(self._judge(part, rows, self.reference.known[self.name][part]))
        first = next((f.first_step for f in found if f.first_step is not None), None)
        return [replace(f, first_step=first) if f.verdict is Outcome.DISAGREE else f for f in found]

    def _overflows(self) -> bool:
        own = [known.own_error for known in self.reference.known[self.name].values()]
        return self.lane.dtype == "float32" and not all(np.isfinite(error).all() for error in own)

    def _exactly(self) -> Finding:
        """Integers and bools are equal or they are not; where rounding flips some, that decides nothing."""
        wrong = np.argwhere(self.got != self.truth)
        size = float(np.max(np.abs(self.truth.astype(np.float64)), initial=0.0))
        if not len(wrong):
            same = Finding(self.name, self.lane.check, Outcome.AGREE, 0.0, 0.0, norm=size, note=self.note)
            return replace(same, own_limit=self.lane.own_limit)
        if np.any(self.reference.known[self.name][WHOLE].response > 0):
            text = "rounding of the inputs changes these integers"
            return Finding(self.name, self.lane.check, Outcome.INCONCLUSIVE, None, None, norm=size, note=text)
        index = tuple(int(i) for i in wrong[0])
        at = {"index": index, "got": float(self.got[index]), "expected": float(self.truth[index])}
        return _refused(self.name, self.lane, f"{len(wrong)} of {self.truth.size} integers differ", norm=size, **at)

    def _judge(self, part: str, rows: np.ndarray, known: Known) -> Finding:
        sliced = self.cut is not None and part == self.cut.kind
        label = self.cut.label if self.cut is not None and sliced else lambda row: part * (part == APART)
        finding = judge_rows(self.name, part, label, row_norms(rows), known, self.lane, self.problem.steps, self.note)
        return self._located(finding) if finding.verdict is Outcome.DISAGREE else finding

    def _located(self, finding: Finding) -> Finding:
        """Adds where the difference is largest, and at which step it starts, in the order of computation."""
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(self.off)), self.off.shape))
        first = None
        if self.cut is not None and finding.part == "t" and finding.rows is not None:
            wrong = np.flatnonzero(finding.rows.outcomes == _DISAGREE)
            first = self.cut.step(int(wrong[-1] if is_gradient(self.name) else wrong[0]))
        got, expected = float(self.got[index]), float(self.truth[index])
        return replace(finding, index=index, got=got, expected=expected, first_step=first)


def judge_rows(
    name: str,
    part: str,
    label: Callable[[int], str],
    distance: np.ndarray,
    known: Known,
    lane: Lane,
    steps: int,
    note: str = "",
) -> Finding:
    """The criterion on the rows of one part: ``distance`` [2 norms, rows] of the port from the truth.

    ``label`` names a row; ``steps`` is T, over which rounding accumulates.
    """
    size = known.size
    floor = lane.factor * lane.tiny * np.array([[np.sqrt(known.numbers)], [1.0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        error, faint = distance / size, floor / size
        limit = lane.factor * _explained(known, lane, steps) + faint
    outcomes = np.where(error <= limit, _AGREE, _DISAGREE)
    outcomes[(faint > lane.factor * CHAOS) & (distance <= MADE_UP * floor)] = _VACUOUS
    outcomes[_undecidable(known, lane)] = _INCONCLUSIVE
    shaky = ~(known.own_error <= CHAOS) & (error <= CHAOS)  # float64 is off by more than 2^-29 of that, too
    outcomes[shaky & (outcomes == _DISAGREE)] = _INCONCLUSIVE
    nothing = np.broadcast_to(size[1] < lane.tiny, size.shape)
    absolute = MADE_UP * floor + lane.factor * lane.unit * known.response
    outcomes[nothing] = np.where(distance <= absolute, _VACUOUS, _DISAGREE)[nothing]
    outcomes[~(np.isfinite(size) & np.isfinite(distance))] = _INCONCLUSIVE
    outcomes[np.isfinite(size) & ~np.isfinite(distance) & ~_undecidable(known, lane)] = _DISAGREE
    if part != WHOLE:
        outcomes[:, _empty(known, distance)] = _AGREE
    by, row = _most_telling(outcomes, error, limit)
    finding = Finding(
        name,
        lane.check,
        SEVERITY[int(outcomes[by, row])],
        None if nothing[by, row] or not np.isfinite(error[by, row]) else float(error[by, row]),
        None if nothing[by, row] or not np.isfinite(limit[by, row]) else float(limit[by, row]),
        part=part,
        slice=label(row),
        by=NORMS[by],
        norm=float(size[0, row]),
        note=note,
        own_limit=lane.own_limit,
    )
    worst_rows = outcomes.max(axis=0)
    kept = Rows(worst_rows, error[0], limit[0], size[0], worst_rows != _AGREE)
    if size.shape[1] > 1:
        counts = {str(outcome): kept.count(outcome) for outcome in SEVERITY}
        finding = replace(finding, counts={name: n for name, n in counts.items() if n})
    boundless = finding.verdict is Outcome.DISAGREE and not np.isfinite(distance[by, row])
    reason = Reason.NOT_FINITE if boundless else None
    return replace(finding, rows=kept, reason=reason, note=_joined(note, _why(finding, known, lane, by, row, distance)))


def _empty(known: Known, distance: np.ndarray) -> np.ndarray:
    """Slices that are zero in the model itself, such as padding: on both sides, whatever moves, amid others that
    are not. Where slices fade away a zero is an underflow, and there is nothing to check.
    """
    zero = np.all((known.size == 0) & (known.response == 0) & (distance == 0), axis=0)
    alive = known.size[1][known.size[1] > 0]
    return zero if alive.size and alive.min() > 2.0**-900 else np.zeros_like(zero)


def _explained(known: Known, lane: Lane, steps: int) -> np.ndarray:
    """What rounding may do: the largest of the terms, which K multiplies."""
    own = np.minimum(known.own_error, CHAOS) / U32
    return lane.unit * np.maximum(np.maximum(known.condition, np.sqrt(steps) / 4), own)


def _undecidable(known: Known, lane: Lane) -> np.ndarray:
    """Where the limit would be so wide that a wrong program is within it."""
    chaotic = ~(known.condition * lane.chaos <= CHAOS)
    return chaotic | ~(known.own_error <= CHAOS) if lane.dtype == "float32" else chaotic


def _why(finding: Finding, known: Known, lane: Lane, by: int, row: int, distance: np.ndarray) -> str:
    roundings, own = known.condition[by, row] * lane.chaos, known.own_error[by, row]
    if finding.verdict is Outcome.INCONCLUSIVE:
        if not (np.isfinite(known.size[by, row]) and np.isfinite(distance[by, row])):
            return "the norm overflows float64"
        if roundings <= CHAOS:
            return f"e_ref = {own:.1e} > {CHAOS:g}: the reference itself is that far off in {lane.dtype}"
        text = f"κu = {roundings:.1e} > {CHAOS:g}: the problem amplifies rounding past deciding"
        or_zero = "; or the quantity is zero but for cancellation, then leave it out"
        return text + or_zero * bool(roundings > 0.1)
    if finding.verdict is Outcome.VACUOUS:
        if finding.error is not None:
            return f"the truth is within rounding of the smallest {lane.dtype}: too little to compare"
        return f"the truth underflows {lane.dtype}, or is zero: nothing to compare"
    if finding.verdict is Outcome.DISAGREE and not np.isfinite(distance[by, row]):
        return "NaN, inf or beyond float64, where the truth is finite"
    if finding.verdict is Outcome.DISAGREE and finding.error is None:
        return f"the truth is zero; difference {distance[by, row]:.1e}"
    return ""


def _most_telling(outcomes, error, limit) -> tuple[int, int]:
    """(norm, row) of the gravest outcome, and among those of the largest error in units of its limit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(error / limit, nan=0.0)
    ratio[outcomes != outcomes.max()] = -1.0
    by, row = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return int(by), int(row)


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _nonfinite_mismatch(got, truth):
    same = (np.isnan(got) == np.isnan(truth)) & ((got == truth) | np.isfinite(got) | np.isnan(got))
    same &= np.isfinite(got) == np.isfinite(truth)
    if same.all():
        return None
    return tuple(int(i) for i in np.argwhere(~same)[0])
