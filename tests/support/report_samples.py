"""Results made up to have all that a page shows, without a run: agreement, a late mistake, a control that fades."""

from __future__ import annotations

import numpy as np

from crosscheck.core.criterion import CRITERIA
from crosscheck.core.finding import SEVERITY, Finding, Outcome, Rows, worst
from crosscheck.core.problem import Gradient
from crosscheck.core.verdict import Verdict
from crosscheck.suite.runs import CaseResult

PARAMETERS = [f"{name}_l{k}{end}" for k in (0, 1) for end in ("", "_reverse") for name in ("weight_ih", "bias_hh")]
SIZES = {"A": 1e-15, "B": 1e-6}
ENVIRONMENT = {"python": "3.11", "jax device": "cpu (a device with quite a long name)", "torch TF32": False}
HOSTILE = "\"'><script>alert('$x$')</script>&"


def rows_of(error, limit, outcome=None) -> Rows:
    """outcome: an index into SEVERITY a slice; by default by the limit."""
    error, limit = np.asarray(error, float), np.broadcast_to(np.asarray(limit, float), np.shape(error))
    outcome = np.where(error <= limit, 0, SEVERITY.index(Outcome.DISAGREE)) if outcome is None else np.asarray(outcome)
    return Rows(outcome, error, limit, np.ones_like(error), outcome != 0)


def finding_of(quantity, lane, part, rows: Rows, label="") -> Finding:
    ratio = np.where(rows.outcomes == rows.outcomes.max(), rows.error / rows.limit, -1)
    row = int(np.argmax(ratio))
    counts = {str(outcome): rows.count(outcome) for outcome in SEVERITY if rows.count(outcome)}
    verdict = worst(SEVERITY[k] for k in rows.outcomes)
    numbers = (None, None) if verdict is Outcome.VACUOUS else (float(rows.error[row]), float(rows.limit[row]))
    return Finding(
        quantity,
        CRITERIA[lane].check,
        verdict,
        *numbers,
        part=part,
        slice=label or f"{part}={row}",
        counts=counts,
        rows=rows,
    )


def steps(lane, total=600, wrong_from=None, vacuous_until=0) -> list[Finding]:
    rng = np.random.default_rng(7)
    found = []
    for quantity in ("y", Gradient("x")):
        error, limit = SIZES[lane] * rng.uniform(0.1, 0.9, total), np.full(total, SIZES[lane] * 20)
        if wrong_from is not None:
            error[wrong_from:] = 0.5
        rows = rows_of(error, limit)
        if quantity == Gradient("x"):
            rows.outcomes[:vacuous_until] = SEVERITY.index(Outcome.VACUOUS)
            rows.error[:vacuous_until] = np.nan
        found.append(finding_of(quantity, lane, "t", rows))
    return found


def gates(lane, wrong=None, names=PARAMETERS) -> list[Finding]:
    rng = np.random.default_rng(8)
    found = []
    for name in names:
        error = SIZES[lane] * rng.uniform(0.1, 0.9, 4)
        if name == wrong:
            error[2] = 0.25
        found.append(finding_of(Gradient(name), lane, "gate", rows_of(error, SIZES[lane] * 20)))
    return found


def result(name, findings, implementation="jax_lstm", expected=Outcome.AGREE, cause="") -> CaseResult:
    return CaseResult(
        name,
        side,
        expected,
        Verdict(tuple(findings), ("a note on this side",), cause),
        1.25,
        f"crosscheck --case {name}",
    )


def results() -> list[list[CaseResult]]:
    fine = [f for lane in "AB" for f in steps(lane) + gates(lane)]
    late = [f for lane in "AB" for f in steps(lane, wrong_from=450) + gates(lane, wrong="bias_hh_l1_reverse")]
    faded = [f for lane in "AB" for f in steps(lane, total=10_000, vacuous_until=8_000)]
    cause = "a cause that was found by looking at every quantity in turn"
    return [
        [result("fine", fine), result("fine", fine, implementation="torch_ref")],
        [result("late", late, cause=cause), result("late", fine, implementation="torch_ref")],
        [result("faded", faded, expected=Outcome.VACUOUS)],
    ]
