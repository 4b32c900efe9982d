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

import ml_dtypes
import numpy as np

from crosscheck.core.finding import (
    FLOAT32,
    FLOAT64,
    SEVERITY,
    Check,
    Finding,
    Grounds,
    Outcome,
    Precision,
    Reason,
    Rows,
)
from crosscheck.core.norms import NORMS
from crosscheck.core.problem import Quantity, is_gradient
from crosscheck.core.reference import CHAOS, U32, U64, Conditioning, Inside
from crosscheck.core.slices import WHOLE, Scope

NARROW_CHAOS = 2.0**-4  # of κu and e_ref in bfloat16 and float16: at K = 8 the limit is one half
UNDERFLOW_FACTOR = 2**10  # an output that should be zero may reach this multiple of the underflow error
_AGREE, _VACUOUS, _INCONCLUSIVE, _DISAGREE = range(len(SEVERITY))


@dataclass(frozen=True)
class Criterion:
    """The constants of the criterion for one precision check.

    Attributes:
      check: the precision check.
      unit: u of its dtype.
      factor: K.
      chaos: the relative rounding that leaves nothing to decide if the problem amplifies it past ``widest``.
      own_limit: e_ref is the error of the implementation that is judged.
      own_unit: u of the dtype in which e_ref was measured.
      widest: the largest κu and e_ref that decide something.
    """

    check: Check
    unit: float
    factor: float
    chaos: float = U32
    own_limit: bool = False
    own_unit: float = U32
    widest: float = CHAOS

    @property
    def dtype(self) -> Precision:
        """The dtype of the check."""
        assert self.check.dtype is not None
        return self.check.dtype

    @property
    def tiny(self) -> float:
        """The smallest normal number of the dtype."""
        return float(ml_dtypes.finfo(self.dtype).tiny)


CRITERIA: dict[Precision, Criterion] = {
    "float64": Criterion(FLOAT64, U64, 64.0),
    "float32": Criterion(FLOAT32, U32, 8.0),
}
NARROW: dict[Precision, Criterion] = {
    "bfloat16": Criterion(Check("bfloat16"), 2.0**-8, 8.0, chaos=2.0**-8, own_unit=2.0**-8, widest=NARROW_CHAOS),
    "float16": Criterion(Check("float16"), 2.0**-11, 8.0, chaos=2.0**-11, own_unit=2.0**-11, widest=NARROW_CHAOS),
}


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
    undecidable = _undecidable(known, criterion)
    outcomes[undecidable & ~(error <= criterion.factor * criterion.unit)] = _INCONCLUSIVE
    # If the reference's own float32 error exceeds 1e-3, its float64 error exceeds 2^-29 of that.
    uncertain = ~(known.own_error <= criterion.widest) & (error <= CHAOS)
    if known.inside is None:
        outcomes[uncertain & (outcomes == _DISAGREE)] = _INCONCLUSIVE
    nothing = np.broadcast_to(size[1] < criterion.tiny, size.shape)
    absolute = UNDERFLOW_FACTOR * floor + criterion.factor * criterion.unit * known.response
    outcomes[nothing] = np.where(distance <= absolute, _VACUOUS, _DISAGREE)[nothing]
    zero = np.zeros_like(nothing) if known.inside is None else known.inside.zero
    if known.inside is not None:
        within = floor + criterion.factor * _zero_noise(known.inside)
        # A gradient may be zero by invariance. An output that is only rounding shows nothing.
        agrees = _AGREE if is_gradient(name) or scope != WHOLE else _VACUOUS
        outcomes[zero] = np.where(distance <= within, agrees, _DISAGREE)[zero]
    outcomes[~(np.isfinite(size) & np.isfinite(distance))] = _INCONCLUSIVE
    outcomes[np.isfinite(size) & ~np.isfinite(distance) & ~undecidable] = _DISAGREE
    if scope != WHOLE:
        outcomes[:, _always_zero(known, distance)] = _AGREE
    by, row = _most_telling(outcomes, error, limit)
    finding = Finding(
        name,
        criterion.check,
        SEVERITY[int(outcomes[by, row])],
        None if (nothing | zero)[by, row] or not np.isfinite(error[by, row]) else float(error[by, row]),
        None if (nothing | zero)[by, row] or not np.isfinite(limit[by, row]) else float(limit[by, row]),
        scope=scope,
        slice=label(row),
        by=NORMS[by],
        norm=float(size[0, row]),
        own_limit=criterion.own_limit,
    )
    worst_rows = outcomes.max(axis=0)
    explained = np.all(error <= limit, axis=0) if known.inside is not None else np.zeros(size.shape[1], bool)
    kept = Rows(worst_rows, error[0], limit[0], size[0], worst_rows != _AGREE, explained)
    if size.shape[1] > 1:
        counts = {str(outcome): kept.count(outcome) for outcome in SEVERITY}
        finding = replace(finding, counts={name: n for name, n in counts.items() if n})
    boundless = finding.verdict is Outcome.DISAGREE and not np.isfinite(distance[by, row])
    reason = Reason.NOT_FINITE if boundless else None
    if finding.verdict is Outcome.DISAGREE and _is_less_precise(known, criterion, outcomes, distance):
        reason = Reason.PRECISION
    text = join_notes(note, _why(finding, known, criterion, by, row, distance))
    return replace(
        finding, rows=kept, reason=reason, note=text, grounds=_grounds(finding, known, criterion, error, zero)
    )


def _always_zero(known: Conditioning, distance: np.ndarray) -> np.ndarray:
    """Return a mask of slices that are zero in both results under every perturbation, such as padding.

    It is empty if other slices fade to almost zero: then a zero is an underflow, and there is nothing to check.
    """
    zero = np.all((known.size == 0) & (known.response == 0) & (distance == 0), axis=0)
    alive = known.size[1][known.size[1] > 0]
    return zero if alive.size and alive.min() > 2.0**-900 else np.zeros_like(zero)


def _explained(known: Conditioning, criterion: Criterion, steps: int) -> np.ndarray:
    """Return what rounding explains: the largest of the terms that K multiplies."""
    own = known.own_error if known.inside is not None else np.minimum(known.own_error, criterion.widest)
    own = own / criterion.own_unit
    explained: np.ndarray = criterion.unit * np.maximum(np.maximum(known.condition, np.sqrt(steps) / 4), own)
    if known.inside is None:
        return explained
    inside = np.maximum(known.inside.reference, known.inside.constants)
    if criterion.dtype == "float64":  # the port may compute the same function in a less exact way
        inside = np.maximum(inside, known.inside.port)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.fmax(explained, inside / known.size)


def _grounds(
    finding: Finding, known: Conditioning, criterion: Criterion, error: np.ndarray, zero: np.ndarray
) -> Grounds | None:
    if known.inside is None or finding.verdict is Outcome.DISAGREE:
        return None
    if zero.any():
        return Grounds.ZERO
    constants = replace(known, inside=replace(known.inside, constants=np.zeros_like(known.size)))
    only_so = error > criterion.factor * _explained(constants, criterion, 1)
    return Grounds.CONSTANTS if known.inside.constants.any() and only_so.any() else None


def _zero_noise(inside: Inside) -> np.ndarray:
    """Return what rounding may make of a quantity that is zero: each program rounds in its own way."""
    noise: np.ndarray = np.maximum(inside.reference, inside.port)
    return noise


def _is_less_precise(known: Conditioning, criterion: Criterion, outcomes: np.ndarray, distance: np.ndarray) -> bool:
    """Return whether the port's own rounding explains every row that disagrees, and the reference's does not."""
    if known.inside is None or criterion.dtype == "float64":
        return False
    wrong = outcomes == _DISAGREE
    explained: np.ndarray = distance <= criterion.factor * known.inside.port
    return bool(explained[wrong].all())


def _undecidable(known: Conditioning, criterion: Criterion) -> np.ndarray:
    """Return a mask of rows whose limit would be so wide that a wrong program is within it."""
    if known.inside is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            chaotic = ~(known.inside.spread / known.size <= criterion.widest)
    else:
        chaotic = ~(known.condition * criterion.chaos <= criterion.widest)
    return chaotic if criterion.dtype == "float64" else chaotic | ~(known.own_error <= criterion.widest)


def _why(finding: Finding, known: Conditioning, criterion: Criterion, by: int, row: int, distance: np.ndarray) -> str:
    roundings, own = known.condition[by, row] * criterion.chaos, known.own_error[by, row]
    if known.inside is not None and known.inside.zero[by, row]:
        return (
            f"zero within rounding: the truth is {known.size[by, row]:.1e}, its rounding "
            f"{_zero_noise(known.inside)[by, row]:.1e}, the difference {distance[by, row]:.1e}"
        )
    if known.inside is not None and known.size[by, row] > 0:
        roundings = known.inside.spread[by, row] / known.size[by, row]
    if finding.verdict is Outcome.INCONCLUSIVE:
        if not (np.isfinite(known.size[by, row]) and np.isfinite(distance[by, row])):
            return "the norm overflows float64"
        if roundings <= criterion.widest:
            return (
                f"e_ref = {own:.1e} > {criterion.widest:g}: the reference itself is that far off in {criterion.dtype}"
            )
        text = f"κu = {roundings:.1e} > {criterion.widest:g}: the problem amplifies rounding past deciding"
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


def join_notes(*notes: str) -> str:
    """Return notes as one text, without the empty ones."""
    return "; ".join(filter(None, notes))
