"""Applies the criterion to the rows of one scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from crosscheck.core.conditioning import CHAOS, Conditioning
from crosscheck.core.criterion import Criterion
from crosscheck.core.finding import SEVERITY, Finding, Grounds, Reason, Rows
from crosscheck.core.norms import NORMS
from crosscheck.core.problem import Quantity, is_gradient
from crosscheck.core.row_notes import join_notes, note_on_row
from crosscheck.core.slices import WHOLE, Scope

UNDERFLOW_FACTOR = 2**10  # an output that should be zero may reach this multiple of the underflow error
CONSTANTS = 4.0  # K of constants that are rounded to float32: what their rounding does is measured, not estimated
_AGREE, _VACUOUS, _INCONCLUSIVE, _DISAGREE = range(len(SEVERITY))


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
    size, floor = known.size, _floor(known, criterion)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = distance / size
        limit = criterion.factor * _explained(known, criterion, steps) + floor / size
    outcomes = _outcomes(distance, error, limit, known, criterion)
    nothing = np.broadcast_to(size[1] < criterion.tiny, size.shape)
    absolute = UNDERFLOW_FACTOR * floor + criterion.factor * criterion.unit * known.response
    outcomes[nothing] = np.where(distance <= absolute, _VACUOUS, _DISAGREE)[nothing]
    zero = np.zeros_like(nothing)
    if known.inside is not None:
        zero = known.inside.zero
        within = floor + criterion.factor * known.inside.of_zero
        # A gradient may be zero by invariance. An output that is only rounding shows nothing.
        agrees = _AGREE if is_gradient(name) or scope != WHOLE else _VACUOUS
        outcomes[zero] = np.where(distance <= within, agrees, _DISAGREE)[zero]
    outcomes[~(np.isfinite(size) & np.isfinite(distance))] = _INCONCLUSIVE
    outcomes[np.isfinite(size) & ~np.isfinite(distance) & ~_undecidable(known, criterion)] = _DISAGREE
    if scope != WHOLE:
        outcomes[:, _always_zero(known, distance)] = _AGREE
    by, row = _most_telling(outcomes, error, limit)
    has_ratio = not (nothing | zero)[by, row]
    finding = Finding(
        name,
        criterion.check,
        SEVERITY[int(outcomes[by, row])],
        _finite(error[by, row]) if has_ratio else None,
        _finite(limit[by, row]) if has_ratio else None,
        scope=scope,
        slice=label(row),
        by=NORMS[by],
        norm=float(size[0, row]),
        own_limit=criterion.own_limit,
        rows=_rows(outcomes, error, limit, known),
        reason=_reason(outcomes, distance, (by, row), known, criterion),
        grounds=_grounds(outcomes, known, criterion, error, zero),
    )
    if size.shape[1] > 1:
        assert finding.rows is not None
        counts = {str(outcome): finding.rows.count(outcome) for outcome in SEVERITY}
        finding = replace(finding, counts={name: n for name, n in counts.items() if n})
    return replace(finding, note=join_notes(note, note_on_row(finding, known, criterion, by, row, distance)))


def _floor(known: Conditioning, criterion: Criterion) -> np.ndarray:
    """Return what underflow may do, ``[2 norms, 1]``."""
    floor: np.ndarray = criterion.factor * criterion.tiny * np.array([[np.sqrt(known.numbers)], [1.0]])
    return floor


def _outcomes(
    distance: np.ndarray, error: np.ndarray, limit: np.ndarray, known: Conditioning, criterion: Criterion
) -> np.ndarray:
    """Return the outcomes of rows whose truth is a normal number and no rounding, ``[2 norms, rows]``."""
    floor = _floor(known, criterion)
    outcomes: np.ndarray = np.where(error <= limit, _AGREE, _DISAGREE)
    with np.errstate(divide="ignore", invalid="ignore"):
        faint = floor / known.size > criterion.factor * CHAOS
    outcomes[faint & (distance <= UNDERFLOW_FACTOR * floor)] = _VACUOUS
    outcomes[_undecidable(known, criterion) & ~(error <= criterion.factor * criterion.unit)] = _INCONCLUSIVE
    if known.inside is None:
        # If the reference's own float32 error exceeds 1e-3, its float64 error exceeds 2^-29 of that.
        uncertain = ~(known.own_error <= criterion.widest) & (error <= CHAOS)
        outcomes[uncertain & (outcomes == _DISAGREE)] = _INCONCLUSIVE
    return outcomes


def _rows(outcomes: np.ndarray, error: np.ndarray, limit: np.ndarray, known: Conditioning) -> Rows:
    worst = outcomes.max(axis=0)
    explained = np.all(error <= limit, axis=0) if known.inside is not None else np.zeros(worst.size, bool)
    reach = np.multiply(limit, known.size, out=np.zeros_like(limit), where=known.size > 0).min(axis=0)
    return Rows(worst, error[0], limit[0], known.size[0], worst != _AGREE, explained, reach)


def _finite(a: np.floating) -> float | None:
    return float(a) if np.isfinite(a) else None


def _reason(
    outcomes: np.ndarray, distance: np.ndarray, at: tuple[int, int], known: Conditioning, criterion: Criterion
) -> Reason | None:
    """Return why the row at ``at``, the most telling one, disagrees; None if its numbers say it, or it does not."""
    if outcomes[at] != _DISAGREE:
        return None
    if _is_less_precise(known, criterion, outcomes, distance):
        return Reason.PRECISION
    return None if np.isfinite(distance[at]) else Reason.NOT_FINITE


def _always_zero(known: Conditioning, distance: np.ndarray) -> np.ndarray:
    """Return a mask of slices that are zero in both results under every perturbation, such as padding.

    It is empty if other slices fade to almost zero: then a zero is an underflow, and there is nothing to check.
    """
    zero = np.all((known.size == 0) & (known.response == 0) & (distance == 0), axis=0)
    alive = known.size[1][known.size[1] > 0]
    return zero if alive.size and alive.min() > 2.0**-900 else np.zeros_like(zero)


def _explained(known: Conditioning, criterion: Criterion, steps: int) -> np.ndarray:
    """Return what rounding explains: the largest of the terms that K multiplies."""
    # In float32 the float64 check settles what such a wide limit leaves open. The float64 check has nothing behind it.
    is_settled = known.inside is not None and criterion.dtype != "float64"
    own = known.own_error if is_settled else np.minimum(known.own_error, criterion.widest)
    own = own / criterion.own_unit
    explained: np.ndarray = criterion.unit * np.maximum(np.maximum(known.condition, np.sqrt(steps) / 4), own)
    if known.inside is None:
        return explained
    inside = np.maximum(known.inside.reference, known.inside.constants * CONSTANTS / criterion.factor)
    if criterion.dtype == "float64":  # the port may compute the same function in a less exact way
        inside = np.maximum(inside, known.inside.port)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.fmax(explained, inside / known.size)


def _grounds(
    outcomes: np.ndarray, known: Conditioning, criterion: Criterion, error: np.ndarray, zero: np.ndarray
) -> Grounds | None:
    if known.inside is None or outcomes.max() == _DISAGREE:
        return None
    if zero.any():
        return Grounds.ZERO
    constants = replace(known, inside=replace(known.inside, constants=np.zeros_like(known.size)))
    only_so = error > criterion.factor * _explained(constants, criterion, 1)
    return Grounds.CONSTANTS if known.inside.constants.any() and only_so.any() else None


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


def _most_telling(outcomes: np.ndarray, error: np.ndarray, limit: np.ndarray) -> tuple[int, int]:
    """Return (norm, row) of the gravest outcome, and among equals of the largest error in units of its limit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(error / limit, nan=0.0)
    ratio[outcomes != outcomes.max()] = -1.0
    by, row = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return int(by), int(row)
