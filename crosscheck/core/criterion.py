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

from dataclasses import dataclass

import ml_dtypes

from crosscheck.core.conditioning import CHAOS, U32, U64
from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Precision

NARROW_CHAOS = 2.0**-4  # of κu and e_ref in bfloat16 and float16: at K = 8 the limit is one half


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
