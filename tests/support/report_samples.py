"""Made-up results with everything that a page shows: agreement, a late mistake, a control that fades."""

from __future__ import annotations

import numpy as np

from crosscheck.core.criterion import CRITERIA
from crosscheck.core.finding import SEVERITY, Finding, Outcome, Rows, worst
from crosscheck.core.problem import Gradient
from crosscheck.core.slices import TIME
from crosscheck.core.verdict import Verdict
from crosscheck.lstm.gates import GATE
from crosscheck.suite.runs import CaseResult

PARAMETERS = [f"{name}_l{k}{end}" for k in (0, 1) for end in ("", "_reverse") for name in ("weight_ih", "bias_hh")]
SIZES = {"float64": 1e-15, "float32": 1e-6}
ENVIRONMENT = {"python": "3.11", "jax device": "cpu (a device with quite a long name)", "torch TF32": False}
HOSTILE = "\"'><script>alert('$x$')</script>&"


def rows_of(error, limit, outcome=None) -> Rows:
    """Return rows. ``outcome`` is an index into SEVERITY per slice; by default the limit decides."""
    error, limit = np.asarray(error, float), np.broadcast_to(np.asarray(limit, float), np.shape(error))
    outcome = np.where(error <= limit, 0, SEVERITY.index(Outcome.DISAGREE)) if outcome is None else np.asarray(outcome)
    return Rows(outcome, error, limit, np.ones_like(error), outcome != 0, np.zeros(len(error), bool), limit)


def finding_of(quantity, dtype, scope, rows: Rows, label="") -> Finding:
    ratio = np.where(rows.outcomes == rows.outcomes.max(), rows.error / rows.limit, -1)
    row = int(np.argmax(ratio))
    counts = {str(outcome): rows.count(outcome) for outcome in SEVERITY if rows.count(outcome)}
    verdict = worst(SEVERITY[k] for k in rows.outcomes)
    numbers = (None, None) if verdict is Outcome.VACUOUS else (float(rows.error[row]), float(rows.limit[row]))
    return Finding(
        quantity,
        CRITERIA[dtype].check,
        verdict,
        *numbers,
        scope=scope,
        slice=label or f"{scope}={row}",
        counts=counts,
        rows=rows,
    )


def steps(dtype, total=600, wrong_from=None, vacuous_until=0) -> list[Finding]:
    rng = np.random.default_rng(7)
    found = []
    for quantity in ("y", Gradient("x")):
        error, limit = SIZES[dtype] * rng.uniform(0.1, 0.9, total), np.full(total, SIZES[dtype] * 20)
        if wrong_from is not None:
            error[wrong_from:] = 0.5
        rows = rows_of(error, limit)
        if quantity == Gradient("x"):
            rows.outcomes[:vacuous_until] = SEVERITY.index(Outcome.VACUOUS)
            rows.error[:vacuous_until] = np.nan
        found.append(finding_of(quantity, dtype, TIME, rows))
    return found


def gates(dtype, wrong=None, names=PARAMETERS) -> list[Finding]:
    rng = np.random.default_rng(8)
    found = []
    for name in names:
        error = SIZES[dtype] * rng.uniform(0.1, 0.9, 4)
        if name == wrong:
            error[2] = 0.25
        found.append(finding_of(Gradient(name), dtype, GATE, rows_of(error, SIZES[dtype] * 20)))
    return found


def result(name, findings, implementation="jax_lstm", expected=Outcome.AGREE, cause="") -> CaseResult:
    return CaseResult(
        name,
        implementation,
        expected,
        Verdict(tuple(findings), ("a note on this implementation",), cause),
        1.25,
        f"crosscheck --case {name}",
    )


def results() -> list[list[CaseResult]]:
    fine = [f for dtype in ("float64", "float32") for f in steps(dtype) + gates(dtype)]
    late = [
        f
        for dtype in ("float64", "float32")
        for f in steps(dtype, wrong_from=450) + gates(dtype, wrong="bias_hh_l1_reverse")
    ]
    faded = [f for dtype in ("float64", "float32") for f in steps(dtype, total=10_000, vacuous_until=8_000)]
    cause = "a cause that was found by looking at every quantity in turn"
    return [
        [result("fine", fine), result("fine", fine, implementation="torch_ref")],
        [result("late", late, cause=cause), result("late", fine, implementation="torch_ref")],
        [result("faded", faded, expected=Outcome.VACUOUS)],
    ]
