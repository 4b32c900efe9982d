"""Error against time as a table: one row per stretch of the sequence, at its worst step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosscheck.core.conditioning import TINY32
from crosscheck.core.finding import FLOAT64, SEVERITY, Finding, Outcome
from crosscheck.core.problem import Gradient, Quantity
from crosscheck.core.slices import TIME
from crosscheck.core.verdict_text import check_text, settled_text
from crosscheck.report.table import Table
from crosscheck.suite.runs import CaseResult

STRETCHES = 10


def curve_table(findings: Sequence[Finding], quantity: Quantity, title: str = "") -> Table:
    """Return, per stretch of time and check, error and limit at the step that is nearest to its limit."""
    mine = [f for f in findings if f.quantity == quantity and f.scope == TIME and not f.check.stands_in]
    curves = {f.check: f for f in mine if f.rows is not None}
    rows = []
    if curves:
        sizes = next(iter(curves.values())).rows.size  # type: ignore[union-attr]
        for stretch in np.array_split(np.arange(sizes.size), min(STRETCHES, sizes.size)):
            low, high = sizes[stretch].min(), sizes[stretch].max()
            cells = (_cell(f, stretch) for f in curves.values())
            rows.append((f"{stretch[0]} to {stretch[-1]}", f"{low:.1e} to {high:.1e}", *cells))
    return Table(title, ("steps", f"‖{quantity}‖", *(f"{check}: err / limit" for check in curves)), tuple(rows))


def _cell(finding: Finding, stretch: np.ndarray) -> str:
    rows = finding.rows
    assert rows is not None
    outcomes = rows.outcomes[stretch]
    judged = stretch[outcomes != SEVERITY.index(Outcome.VACUOUS)]
    empty = stretch.size - judged.size
    if not judged.size:
        return "vacuous"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(rows.error[judged] / rows.limit[judged])
    t = judged[int(np.argmax(ratio))]
    worst = SEVERITY[int(outcomes.max())]
    text = f"{rows.error[t]:.1e} / {rows.limit[t]:.1e}"
    text += f" {worst}" * (worst in (Outcome.DISAGREE, Outcome.INCONCLUSIVE))
    return text + f" ({empty} vacuous)" * bool(empty)


def input_gradient(result: CaseResult) -> Finding:
    """Return the finding about dL/dx over time in float64."""
    wanted = (Gradient("x"), FLOAT64, TIME)
    return next(f for f in result.verdict.findings if (f.quantity, f.check, f.scope) == wanted)


def survival_text(truth: Finding) -> str:
    """Return the rate at which a gradient falls going back in time, and at how many steps float32 loses it."""
    sizes = truth.rows.size if truth.rows is not None else np.ones(1)
    alive = np.flatnonzero(sizes > 0)
    if alive.size < 2:
        return f"‖{truth.quantity}‖ is zero at {sizes.size - alive.size} of {sizes.size} steps"
    first, last = int(alive[0]), int(alive[-1])
    rate = float(np.exp((np.log(sizes[last]) - np.log(sizes[first])) / max(last - first, 1)))
    faded = int(np.sum(sizes < TINY32))
    text = f"‖{truth.quantity}‖: {sizes[last]:.2e} at step {last}, {sizes[first]:.2e} at step {first}, "
    text += f"a factor {1 / rate:.4g} per step going back; "
    text += f"zero even in float64 before step {first}; " * (first > 0)
    return (
        text + f"below the smallest normal float32 at {faded} of {sizes.size} steps ({100 * faded / sizes.size:.1f} %)"
    )


def settled_lines(result: CaseResult) -> list[str]:
    """Return one line per finding over time that another check settled."""
    lines = []
    for finding in result.verdict.findings:
        if finding.settled_by and finding.scope == TIME:
            doubts = ", ".join(f"{n} steps {name}" for name, n in finding.counts.items() if name != Outcome.AGREE)
            where = f"{result.implementation}, {finding.quantity}, {check_text(finding.check)}"
            lines.append(f"{where}: {doubts}, settled {settled_text(finding)}")
    return lines
