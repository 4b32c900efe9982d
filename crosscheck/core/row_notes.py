"""What a reader must know about the most telling row of a finding, in words."""

from __future__ import annotations

import numpy as np

from crosscheck.core.conditioning import Conditioning
from crosscheck.core.criterion import Criterion
from crosscheck.core.finding import Finding, Outcome


def note_on_row(
    finding: Finding, known: Conditioning, criterion: Criterion, by: int, row: int, distance: np.ndarray
) -> str:
    """Return why the outcome of a finding is what it is; "" if its numbers say it.

    Args:
      finding: the finding, without its note.
      known: what the limits are made of.
      criterion: the constants.
      by: the norm, 0 or 1.
      row: the row.
      distance: ``[2 norms, rows]``, of the result from the truth.
    """
    roundings, own = known.condition[by, row] * criterion.chaos, known.own_error[by, row]
    if known.inside is not None and known.inside.zero[by, row]:
        return (
            f"zero within rounding: the truth is {known.size[by, row]:.1e}, its rounding "
            f"{known.inside.of_zero[by, row]:.1e}, the difference {distance[by, row]:.1e}"
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


def join_notes(*notes: str) -> str:
    """Return notes as one text, without the empty ones."""
    return "; ".join(filter(None, notes))
