"""The criterion: does rounding explain the error, given the condition of the problem?

    ‖result − truth64‖ ≤ K · max(e_ref, κu, (√T/4)·u) · ‖truth64‖ + K · tiny · √n        (without √n in the max-norm)

κ is the condition, and e_ref the reference's own float32 error, at most 1e-3 here. `crosscheck.core.reference` measures
both. T is the number of steps, n the numbers in the slice, and tiny the smallest normal number. The criterion holds for
every quantity and every slice of it, in the 2-norm and in the max-norm.

- float64 check: u = 2^-53, K = 64. It separates a wrong function from rounding by seven decades. e_ref is measured in
  float32 and scaled by 2^-29. It contains the rounding of a saturated gate over thousands of steps. κ misses that
  rounding, since no perturbation of the inputs shows it.
- float32 check: u = 2^-24, K = 8. It sees TF32, bfloat16 and dtype leaks.

The outcome is INCONCLUSIVE if κu, or in the float32 check e_ref, exceeds 1e-3 in float32. It is VACUOUS if the truth is
smaller than the smallest normal number of the dtype. NaN and inf must stand at the same positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from crosscheck.core.finding import FLOAT32, FLOAT64, SEVERITY, Check, Finding, Outcome, Precision, Reason, Rows
from crosscheck.core.norms import NORMS, row_norms
from crosscheck.core.problem import Problem, Quantity, Results, is_gradient
from crosscheck.core.reference import CHAOS, U32, U64, Conditioning, Reference, difference, slice_up
from crosscheck.core.slices import OUTLIERS, TIME, WHOLE, Scope

OWN_LIMIT = "cannot fail: e_ref, which sets this limit, is this implementation's own error"
UNDERFLOW_FACTOR = 2**10  # an output that should be zero may reach this multiple of the underflow error
_AGREE, _VACUOUS, _INCONCLUSIVE, _DISAGREE = range(len(SEVERITY))


@dataclass(frozen=True)
class Criterion:
    """The constants of the criterion for one precision check.

    Attributes:
      check: the precision check.
      unit: u of its dtype.
      factor: K.
      chaos: the relative rounding that leaves nothing to decide if the problem amplifies it past 1e-3.
      own_limit: e_ref is the error of the implementation that is judged.
    """

    check: Check
    unit: float
    factor: float
    chaos: float = U32
    own_limit: bool = False

    @property
    def dtype(self) -> Precision:
        """The dtype of the check."""
        assert self.check.dtype is not None
        return self.check.dtype

    @property
    def tiny(self) -> float:
        """The smallest normal number of the dtype."""
        return float(np.finfo(self.dtype).tiny)


CRITERIA: dict[Precision, Criterion] = {
    "float64": Criterion(FLOAT64, U64, 64.0),
    "float32": Criterion(FLOAT32, U32, 8.0),
}


Norms: TypeAlias = Callable[[np.ndarray], np.ndarray]  # [rows, numbers] -> [2 norms, rows]


class Comparer(Protocol):
    """What applies a criterion: `compare`, or one that is broken on purpose."""

    def __call__(
        self, problem: Problem, reference: Reference, result: Results, criterion: Criterion, note: str = ""
    ) -> list[Finding]: ...


def compare(
    problem: Problem,
    reference: Reference,
    result: Results,
    criterion: Criterion,
    note: str = "",
    norms: Norms = row_norms,
) -> list[Finding]:
    """Return one finding per scope of each quantity, in the truth's order.

    A name that only one of the two results has is a finding too.
    """
    findings: list[Finding] = []
    for name, truth in reference.truth.items():
        if name not in result:
            findings.append(_refused(name, criterion, "missing from the result", reason=Reason.NAMES))
        elif np.shape(result[name]) != np.shape(truth):
            findings.append(_refused(name, criterion, f"shape {np.shape(result[name])}, expected {np.shape(truth)}"))
        else:
            findings += _Comparison(problem, reference, name, result[name], criterion, note, norms).findings()
    extra = [name for name in result if name not in reference.truth]
    unknown = "the reference has no such quantity"
    return findings + [_refused(name, criterion, unknown, reason=Reason.NAMES) for name in extra]


def _refused(name: Quantity, criterion: Criterion, text: str, **details: Any) -> Finding:
    return Finding(name, criterion.check, Outcome.DISAGREE, None, None, note=text, **details)


class _Comparison:
    """One quantity of a result beside the truth."""

    def __init__(
        self,
        problem: Problem,
        reference: Reference,
        name: Quantity,
        got: np.ndarray,
        criterion: Criterion,
        note: str,
        norms: Norms,
    ) -> None:
        self.problem, self.reference, self.name, self.criterion, self.norms = problem, reference, name, criterion, norms
        self.note = _joined(note, OWN_LIMIT * criterion.own_limit)
        self.dtype = got.dtype
        self.got = np.asarray(got, np.float64)
        self.truth = reference.truth[name]
        self.slicing = problem.slicings.get(name)

    def findings(self) -> list[Finding]:
        if self.truth.dtype.kind in "biu":
            return [self._integers()]
        mismatch = _nonfinite_mismatch(self.got, self.truth)
        if mismatch is not None and self._overflows():
            text = f"the reference itself is not finite in {self.criterion.dtype}"
            return [Finding(self.name, self.criterion.check, Outcome.INCONCLUSIVE, None, None, note=text)]
        if mismatch is not None:
            at = {"index": mismatch, "got": float(self.got[mismatch]), "expected": float(self.truth[mismatch])}
            text = "NaN or inf where the truth has none, or the reverse"
            return [_refused(self.name, self.criterion, text, reason=Reason.NOT_FINITE, **at)]
        findings = []
        if str(self.dtype) != self.criterion.dtype:
            text = f"came back as {self.dtype}, in a run in {self.criterion.dtype}"
            findings.append(_refused(self.name, self.criterion, text))
        self.difference = difference(self.got, self.truth)
        for scope, rows in slice_up(self.difference, self.slicing, self.reference.outliers.get(self.name)).items():
            findings.append(self._judge(scope, rows, self.reference.conditioning[self.name][scope]))
        first = next((f.first_step for f in findings if f.first_step is not None), None)
        return [replace(f, first_step=first) if f.verdict is Outcome.DISAGREE else f for f in findings]

    def _overflows(self) -> bool:
        own = [known.own_error for known in self.reference.conditioning[self.name].values()]
        return self.criterion.dtype == "float32" and not all(np.isfinite(error).all() for error in own)

    def _integers(self) -> Finding:
        """Compare integers and bools exactly. If rounding changes some of them, nothing can be decided."""
        check = self.criterion.check
        wrong = np.argwhere(self.got != self.truth)
        size = float(np.max(np.abs(self.truth.astype(np.float64)), initial=0.0))
        if not len(wrong):
            same = Finding(self.name, check, Outcome.AGREE, 0.0, 0.0, norm=size, note=self.note)
            return replace(same, own_limit=self.criterion.own_limit)
        if np.any(self.reference.conditioning[self.name][WHOLE].response > 0):
            text = "rounding of the inputs changes these integers"
            return Finding(self.name, check, Outcome.INCONCLUSIVE, None, None, norm=size, note=text)
        index = tuple(int(i) for i in wrong[0])
        at = {"index": index, "got": float(self.got[index]), "expected": float(self.truth[index])}
        text = f"{len(wrong)} of {self.truth.size} integers differ"
        return _refused(self.name, self.criterion, text, norm=size, **at)

    def _judge(self, scope: Scope, rows: np.ndarray, known: Conditioning) -> Finding:
        label: Callable[[int], str] = lambda row: str(scope) if scope == OUTLIERS else ""
        if self.slicing is not None and scope == self.slicing.scope:
            label = self.slicing.label
        distance = self.norms(rows)
        finding = judge_rows(self.name, scope, label, distance, known, self.criterion, self.problem.steps, self.note)
        return self._located(finding) if finding.verdict is Outcome.DISAGREE else finding

    def _located(self, finding: Finding) -> Finding:
        """Add where the difference is largest, and at which step it starts, in the order of computation."""
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(self.difference)), self.difference.shape))
        first = None
        if self.slicing is not None and finding.scope == TIME and finding.rows is not None:
            wrong = np.flatnonzero(finding.rows.outcomes == _DISAGREE)
            first = self.slicing.step(int(wrong[-1] if is_gradient(self.name) else wrong[0]))
        got, expected = float(self.got[index]), float(self.truth[index])
        return replace(finding, index=index, got=got, expected=expected, first_step=first)


def judge_rows(
    name: Quantity,
    scope: Scope,
    label: Callable[[int], str],
    distance: np.ndarray,
    known: Conditioning,
    criterion: Criterion,
    steps: int,
    note: str = "",
) -> Finding:
    """Apply the criterion to the rows of one scope.

    Args:
      name: the quantity.
      scope: what the rows are.
      label: gives the name of a row.
      distance: ``[2 norms, rows]``, of the result from the truth.
      known: what the limits are made of.
      criterion: the constants.
      steps: T, over which rounding accumulates.
      note: what a reader must know.
    """
    size = known.size
    floor = criterion.factor * criterion.tiny * np.array([[np.sqrt(known.numbers)], [1.0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        error, faint = distance / size, floor / size
        limit = criterion.factor * _explained(known, criterion, steps) + faint
    outcomes = np.where(error <= limit, _AGREE, _DISAGREE)
    outcomes[(faint > criterion.factor * CHAOS) & (distance <= UNDERFLOW_FACTOR * floor)] = _VACUOUS
    outcomes[_undecidable(known, criterion)] = _INCONCLUSIVE
    # If the reference's own float32 error exceeds 1e-3, its float64 error exceeds 2^-29 of that.
    uncertain = ~(known.own_error <= CHAOS) & (error <= CHAOS)
    outcomes[uncertain & (outcomes == _DISAGREE)] = _INCONCLUSIVE
    nothing = np.broadcast_to(size[1] < criterion.tiny, size.shape)
    absolute = UNDERFLOW_FACTOR * floor + criterion.factor * criterion.unit * known.response
    outcomes[nothing] = np.where(distance <= absolute, _VACUOUS, _DISAGREE)[nothing]
    outcomes[~(np.isfinite(size) & np.isfinite(distance))] = _INCONCLUSIVE
    outcomes[np.isfinite(size) & ~np.isfinite(distance) & ~_undecidable(known, criterion)] = _DISAGREE
    if scope != WHOLE:
        outcomes[:, _always_zero(known, distance)] = _AGREE
    by, row = _most_telling(outcomes, error, limit)
    finding = Finding(
        name,
        criterion.check,
        SEVERITY[int(outcomes[by, row])],
        None if nothing[by, row] or not np.isfinite(error[by, row]) else float(error[by, row]),
        None if nothing[by, row] or not np.isfinite(limit[by, row]) else float(limit[by, row]),
        scope=scope,
        slice=label(row),
        by=NORMS[by],
        norm=float(size[0, row]),
        own_limit=criterion.own_limit,
    )
    worst_rows = outcomes.max(axis=0)
    kept = Rows(worst_rows, error[0], limit[0], size[0], worst_rows != _AGREE)
    if size.shape[1] > 1:
        counts = {str(outcome): kept.count(outcome) for outcome in SEVERITY}
        finding = replace(finding, counts={name: n for name, n in counts.items() if n})
    boundless = finding.verdict is Outcome.DISAGREE and not np.isfinite(distance[by, row])
    reason = Reason.NOT_FINITE if boundless else None
    text = _joined(note, _why(finding, known, criterion, by, row, distance))
    return replace(finding, rows=kept, reason=reason, note=text)


def _always_zero(known: Conditioning, distance: np.ndarray) -> np.ndarray:
    """Return a mask of slices that are zero in both results under every perturbation, such as padding.

    It is empty if other slices fade to almost zero: then a zero is an underflow, and there is nothing to check.
    """
    zero = np.all((known.size == 0) & (known.response == 0) & (distance == 0), axis=0)
    alive = known.size[1][known.size[1] > 0]
    return zero if alive.size and alive.min() > 2.0**-900 else np.zeros_like(zero)


def _explained(known: Conditioning, criterion: Criterion, steps: int) -> np.ndarray:
    """Return what rounding explains: the largest of the terms that K multiplies."""
    own = np.minimum(known.own_error, CHAOS) / U32
    explained: np.ndarray = criterion.unit * np.maximum(np.maximum(known.condition, np.sqrt(steps) / 4), own)
    return explained


def _undecidable(known: Conditioning, criterion: Criterion) -> np.ndarray:
    """Return a mask of rows whose limit would be so wide that a wrong program is within it."""
    chaotic = ~(known.condition * criterion.chaos <= CHAOS)
    return chaotic | ~(known.own_error <= CHAOS) if criterion.dtype == "float32" else chaotic


def _why(finding: Finding, known: Conditioning, criterion: Criterion, by: int, row: int, distance: np.ndarray) -> str:
    roundings, own = known.condition[by, row] * criterion.chaos, known.own_error[by, row]
    if finding.verdict is Outcome.INCONCLUSIVE:
        if not (np.isfinite(known.size[by, row]) and np.isfinite(distance[by, row])):
            return "the norm overflows float64"
        if roundings <= CHAOS:
            return f"e_ref = {own:.1e} > {CHAOS:g}: the reference itself is that far off in {criterion.dtype}"
        text = f"κu = {roundings:.1e} > {CHAOS:g}: the problem amplifies rounding past deciding"
        or_zero = "; or the quantity is zero but for cancellation, then leave it out"
        return text + or_zero * bool(roundings > 0.1)
    if finding.verdict is Outcome.VACUOUS:
        if finding.error is not None:
            return f"the truth is within rounding of the smallest {criterion.dtype}: too little to compare"
        return f"the truth underflows {criterion.dtype}, or is zero: nothing to compare"
    if finding.verdict is Outcome.DISAGREE and not np.isfinite(distance[by, row]):
        return "NaN, inf or beyond float64, where the truth is finite"
    if finding.verdict is Outcome.DISAGREE and finding.error is None:
        return f"the truth is zero; difference {distance[by, row]:.1e}"
    return ""


def _most_telling(outcomes: np.ndarray, error: np.ndarray, limit: np.ndarray) -> tuple[int, int]:
    """Return (norm, row) of the gravest outcome, and among those of the largest error in units of its limit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(error / limit, nan=0.0)
    ratio[outcomes != outcomes.max()] = -1.0
    by, row = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return int(by), int(row)


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _nonfinite_mismatch(got: np.ndarray, truth: np.ndarray) -> tuple[int, ...] | None:
    """Return the first index at which only one is finite, or both are infinite or NaN and differ."""
    same = (np.isnan(got) == np.isnan(truth)) & ((got == truth) | np.isfinite(got) | np.isnan(got))
    same &= np.isfinite(got) == np.isfinite(truth)
    if same.all():
        return None
    return tuple(int(i) for i in np.argwhere(~same)[0])
