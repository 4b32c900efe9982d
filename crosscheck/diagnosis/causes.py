"""A likely cause of a disagreement, from which quantities differ, in which check, where and by how much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosscheck.core.conditioning import CHAOS, U32, Reference
from crosscheck.core.finding import FLOAT64, Finding, Outcome, Reason
from crosscheck.core.problem import is_gradient

OTHER = 0.1  # a relative error beyond which a lower precision is no cause


def likely_cause(findings: Sequence[Finding], reference: Reference) -> str:
    """Return one sentence, or "" if nothing disagrees."""
    bad = [f for f in findings if f.verdict is Outcome.DISAGREE]
    if not bad:
        return ""
    if any(f.reason is Reason.NAMES for f in bad):
        return "the two do not have the same quantities: compare the names of parameters and outputs"
    if any(f.reason is Reason.NOT_FINITE for f in bad):
        first = next(f for f in bad if f.reason is Reason.NOT_FINITE)
        side = "torch" if first.got is not None and np.isfinite(first.got) else "the port"
        return f"only {side} gives NaN or inf: look at divisions, logarithms and padding"
    if any(f.reason is Reason.DTYPE for f in bad):
        first = next(f for f in bad if f.reason is Reason.DTYPE)
        return f"the port returns {first.quantity} in another dtype than torch: look at its casts"
    exact = [f for f in bad if f.check.dtype == "float64"]
    if not exact and any(f.check.dtype == "float64" for f in findings):
        narrow = " and ".join(dict.fromkeys(f.check.dtype for f in bad if f.check.dtype)) or "float32"
        if max((f.error for f in bad if f.error is not None), default=0.0) > OTHER:
            return (
                f"float64 agrees, and {narrow} gives completely different numbers: look for a branch on the dtype, and "
                "for numbers that underflow or overflow"
            )
        return (
            f"float64 agrees and {narrow} does not: some products run in lower precision (TF32, bfloat16, float16), "
            "a sum is accumulated in a narrow type, or a number underflows or overflows"
        )
    leaks = [0.1 <= _in_float32_roundings(f, reference) <= 30 for f in exact]
    if leaks and 2 * sum(leaks) > len(leaks):
        return (
            "the float64 error has the size of float32 rounding: look for something that is computed in float32, for a "
            "constant of few digits or in float32, and for an approximation"
        )
    first = (exact or bad)[0]
    recurrent = any("weight_hh" in str(f.quantity) for f in findings)
    if is_gradient(first.quantity):
        return (
            f"outputs are right and gradients are not, first {first.quantity}: look at the backward pass, such as a "
            "stop_gradient, a truncation or a custom derivative"
        )
    if recurrent and first.first_step == 0:
        return (
            "outputs differ from step 0 on: look at gate order, transposed weights, biases, the initial state, and at "
            "lengths in the reverse direction"
        )
    if recurrent and first.first_step is not None:
        return (
            f"outputs agree up to step {first.first_step - 1} and differ at {first.first_step}: look at the recurrent "
            "product, the carried state, lengths and resets"
        )
    order = ", gate order" * recurrent
    return f"{first.quantity} differs: look at layout (transposes{order}), biases and constants"


def _in_float32_roundings(finding: Finding, reference: Reference) -> float:
    """Return the error in units of κu: one float32 rounding, amplified as much as the problem amplifies it."""
    known = reference.conditioning.get(finding.quantity, {}).get(finding.scope)
    if finding.error is None or known is None or finding.error > CHAOS or finding.check != FLOAT64:
        return float("inf")
    return finding.error / (max(float(np.min(known.condition)), 1.0) * U32)
