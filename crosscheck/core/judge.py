"""All precision checks of one implementation on one problem, and what settles a check in doubt.

- The float64 and the float32 check run the problem itself.
- Linearity: a pullback is linear, so cotangents times 2^20 give gradients times 2^20, bit for bit.
- Loss scaling: if gradients fade out of float32, the float32 check runs again with cotangents times a power of two.
- Stand-ins: if the problem amplifies rounding so much that nothing can be decided, another problem of the same network
  runs in its place. Callers give the stand-ins; `crosscheck.lstm.teacher_forcing` makes those of an LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from crosscheck.core.comparison import Comparer, compare
from crosscheck.core.conditioning import Reference
from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.errors import OnlyOwnSizes, run_at_other_sizes
from crosscheck.core.finding import FLOAT32, FLOAT64, SEVERITY, Check, Finding, Kind, Outcome, Settlement
from crosscheck.core.problem import Problem, Quantity, Results, is_gradient
from crosscheck.core.slices import Scope

Run: TypeAlias = Callable[[Problem, str], Results]  # (problem, dtype) -> outputs and gradients
PROBE = 20
LINEARITY, LOSS_SCALED = Check("float64", Kind.LINEARITY), Check("float32", Kind.LOSS_SCALED)
_NORMAL = 2.0**-900  # a rounding of a smaller number may be another one after scaling


@dataclass(frozen=True)
class StandIn:
    """Another problem of the same network, with its own reference, in place of one that cannot be decided.

    Attributes:
      kind: TEACHER_FORCED for stretches of ``steps`` that start from the reference's states; DAMPED for the whole
        sequence with smaller recurrent weights.
      problem: the problem.
      reference: its reference.
      run: runs the implementation that is judged.
      criteria: the precision checks.
      steps: the length of a stretch.
    """

    kind: Kind
    problem: Problem
    reference: Reference
    run: Run
    criteria: tuple[Criterion, ...] = tuple(CRITERIA.values())
    steps: int = 0


StandIns: TypeAlias = Callable[[bool], Sequence[StandIn]]
Stages: TypeAlias = Callable[[Criterion], Iterable[Reference]]


def no_stand_ins(chaotic: bool) -> Sequence[StandIn]:
    """Return no stand-in: what cannot be decided stays undecided."""
    return ()


def no_stages(criterion: Criterion) -> Iterable[Reference]:
    """Return no stage: only the limits that need no further runs are used."""
    return ()


def run_checks(
    problem: Problem,
    reference: Reference,
    run: Run,
    criteria: Iterable[Criterion] = tuple(CRITERIA.values()),
    stand_ins: StandIns = no_stand_ins,
    is_truth: bool = False,
    comparer: Comparer = compare,
    stages: Stages = no_stages,
) -> tuple[Finding, ...]:
    """Return the findings of all precision checks, in the truth's order.

    Args:
      problem: the problem.
      reference: its reference.
      run: runs the implementation that is judged.
      criteria: the precision checks.
      stand_ins: gives the stand-ins. It is called only if something could not be decided; its argument says whether
        the float64 check is in doubt too.
      is_truth: the implementation is itself the float64 truth, so that ``criteria`` has no float64 check.
      comparer: applies a criterion. Any other than `compare` is broken on purpose, to check that the score shows it.
      stages: gives the reference with rounding measured inside the programs. It is called only if the limits that
        need no further runs do not suffice.
    """
    findings: list[Finding] = []
    for criterion in criteria:
        result = run(problem, criterion.dtype)
        found = comparer(problem, reference, result, criterion)
        if any(_may_be_rounding(f) for f in found):
            for known in stages(criterion):
                found = comparer(problem, known, result, criterion)
                if not any(_may_be_rounding(f) and f.verdict is not Outcome.VACUOUS for f in found):
                    break
        findings += found
        if criterion.dtype == "float64":
            findings += _check_linearity(problem, reference, run, result)
    if reference.loss_scaled is not None and any(_fades(f) for f in findings):
        findings += _check_loss_scaled(problem, reference.loss_scaled, run, findings, comparer)
    doubtful = [f for f in findings if f.verdict is Outcome.INCONCLUSIVE]
    if doubtful:
        chaotic = any(f.check == FLOAT64 for f in doubtful)
        try:
            findings += [finding for stand_in in stand_ins(chaotic) for finding in _check_stand_in(stand_in)]
        except OnlyOwnSizes as error:
            text = f"other sizes could not be run: {error}"
            failed = Check(None, Kind.FAILED)
            findings.append(Finding("other sizes", failed, Outcome.INCONCLUSIVE, None, None, note=text))
    order = {name: n for n, name in enumerate(reference.truth)}
    return tuple(sorted(settle(findings, is_truth), key=lambda f: order.get(f.quantity, -1)))


def _may_be_rounding(finding: Finding) -> bool:
    """Return whether rounding inside the programs could explain that a finding does not agree."""
    return not finding.ok and finding.rows is not None


def _fades(finding: Finding) -> bool:
    """Return whether the quantity is too small for float32."""
    return finding.check == FLOAT32 and finding.verdict is Outcome.VACUOUS


def _check_linearity(problem: Problem, reference: Reference, run: Run, result: Results) -> list[Finding]:
    """Check gradients at 2^20 times the cotangents. Quantities in which the reference is not linear pass."""
    names = [name for name in result if is_gradient(name) and name in reference.truth]
    if not names:
        return []
    lifted = problem.scaled(2.0**PROBE)
    errors = _nonlinearities(names, result, run(lifted, "float64"))
    if any(errors.values()) and reference.run is not None:
        own = _nonlinearities(names, reference.truth, reference.run(lifted))
        names = [name for name in names if own[name] == 0.0]
    findings = []
    for name in names:
        verdict = Outcome.DISAGREE if errors[name] else Outcome.AGREE
        text = f"2^{PROBE} times the cotangents do not give 2^{PROBE} times the gradient" if errors[name] else ""
        findings.append(Finding(name, LINEARITY, verdict, errors[name], 0.0, by="max-norm", note=text))
    return findings


def _nonlinearities(names: Iterable[Quantity], small: Results, large: Results) -> dict[Quantity, float]:
    return {name: nonlinearity(small[name], large.get(name)) for name in names}


def nonlinearity(small: np.ndarray, large: np.ndarray | None) -> float:
    """Return the largest difference of 2^20 · small and large, relative to the largest number; 0 if all bits agree."""
    if large is None or np.shape(small) != np.shape(large):
        return float("inf")
    expected = small * 2.0**PROBE
    known = np.isfinite(expected) & (np.abs(small) > _NORMAL)
    if not known.any() or np.array_equal(large[known], expected[known]):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.max(np.abs(large[known] - expected[known])) / np.max(np.abs(expected[known]))
    return float(off) if np.isfinite(off) else float("inf")


def _check_loss_scaled(
    problem: Problem, reference: Reference, run: Run, findings: Sequence[Finding], comparer: Comparer
) -> list[Finding]:
    """Check gradients that were vacuous in float32 again at larger cotangents. ``reference`` is the loss-scaled one."""
    doubtful = {f.quantity for f in findings if _fades(f) and is_gradient(f.quantity)}
    lifted = problem.scaled(2.0**reference.power)
    result = run(lifted, "float32")
    known = replace(reference, truth={name: a for name, a in reference.truth.items() if name in doubtful})
    result = {name: a for name, a in result.items() if name in doubtful}
    text = f"cotangents times 2^{reference.power}"
    return comparer(lifted, known, result, replace(CRITERIA["float32"], check=LOSS_SCALED), text)


def _check_stand_in(stand_in: StandIn) -> list[Finding]:
    findings = []
    for criterion in stand_in.criteria:
        check = Check(criterion.dtype, stand_in.kind, stand_in.steps)
        result = run_at_other_sizes(partial(stand_in.run, stand_in.problem, criterion.dtype))
        findings += compare(stand_in.problem, stand_in.reference, result, replace(criterion, check=check))
    return findings


def settle(findings: Sequence[Finding], is_truth: bool = False) -> list[Finding]:
    """Mark what one check could not decide and another one decided.

    The loss-scaled or the float64 check settles vacuous slices of the float32 check. An implementation that is the
    float64 truth needs no float64 check. If all stand-ins agree, they settle inconclusive slices. The float64 check
    settles inconclusive slices whose error is explained by rounding that was measured inside the reference, and those
    of the loss-scaled check.
    """
    by_key = {(f.quantity, f.scope, f.check): f for f in findings}
    stand_ins = [f for f in findings if f.check.stands_in]
    agreeing = tuple(dict.fromkeys(f.check for f in stand_ins)) if all(f.ok for f in stand_ins) else ()
    return [_settle(f, by_key, agreeing, is_truth) for f in findings]


def _settle(
    finding: Finding,
    by_key: Mapping[tuple[Quantity, Scope, Check], Finding],
    stand_ins: tuple[Check, ...],
    is_truth: bool,
) -> Finding:
    rows = finding.rows
    if rows is None or finding.settled_by or finding.verdict in (Outcome.AGREE, Outcome.DISAGREE):
        return finding
    rest, settled_by = rows.rest.copy(), list[Settlement]()

    def settle_rows(done: np.ndarray, *by: Check) -> None:
        if done.any():
            settled_by.append(Settlement(by, int(done.sum()), done.size))
            rest[done] = False

    if stand_ins:
        settle_rows(rest & (rows.outcomes == SEVERITY.index(Outcome.INCONCLUSIVE)), *stand_ins)
    exact = by_key.get((finding.quantity, finding.scope, FLOAT64))
    if finding.check.dtype != "float64" and exact is not None and exact.rows is not None:
        agrees = exact.rows.outcomes == SEVERITY.index(Outcome.AGREE)
        # The float64 check settles a gradient that fades. A loss-scaled check that decides nothing changes nothing.
        explained = rows.explained | (finding.check == LOSS_SCALED)
        settle_rows(rest & explained & agrees, FLOAT64)
    vacuous = rows.outcomes == SEVERITY.index(Outcome.VACUOUS)
    if finding.check.dtype != "float64" and not finding.check.stands_in:
        for check in (LOSS_SCALED, FLOAT64):
            other = by_key.get((finding.quantity, finding.scope, check))
            if other is not None and other.rows is not None and check != finding.check:
                agrees = other.rows.outcomes == SEVERITY.index(Outcome.AGREE)
                settle_rows(rest & vacuous & agrees, check)
        if is_truth:
            settle_rows(rest & vacuous & (rows.size >= CRITERIA["float64"].tiny))
    kept = replace(rows, rest=rest)
    return replace(finding, rows=kept, settled_by=() if rest.any() else tuple(settled_by))
