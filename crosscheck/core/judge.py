"""All that is asked of one side on one problem, lane by lane, and what a lane in doubt is settled by.

Lane A and lane B on the problem itself. The homogeneity probe: a pullback is linear, so that cotangents times 2^20
give gradients times 2^20, bit for bit. Where gradients fade out of float32, lane B again with cotangents times a power
of two ("B shifted"). Where the problem amplifies rounding past deciding, short windows that start from the reference's
own states, in both lanes; and where it does so in float64 too, the whole sequence at recurrent weights that are small
enough, for what only a position in it shows (`crosscheck.lstm.teacher_forcing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crosscheck.core.criterion import LANES, Lane, compare
from crosscheck.core.finding import FLOAT32, FLOAT64, SEVERITY, Check, Finding, Kind, Outcome
from crosscheck.core.problem import Arrays, Problem, is_gradient
from crosscheck.core.reference import Reference

Run = Callable[[Problem, str], Arrays]  # (problem, dtype) -> outputs and gradients by name
PROBE = 20
WINDOWS = "by windows from the reference's states"
LINEARITY, LOSS_SCALED = Check("float64", Kind.LINEARITY), Check("float32", Kind.LOSS_SCALED)
_NORMAL = 2.0**-900  # below, a rounding of a subnormal may be another one after scaling


@dataclass(frozen=True)
class Windows:
    """Another problem of the same network that can be decided, and its own reference: it stands in for one that cannot.

    kind: teacher-forced for windows of ``steps`` that start from the reference's states, damped for the whole sequence
    at smaller recurrent weights.
    """

    kind: Kind
    problem: Problem
    reference: Reference
    run: Run  # of the side that is judged
    lanes: tuple[Lane, ...] = tuple(LANES.values())
    steps: int = 0


def no_windows(chaotic: bool) -> Sequence[Windows]:
    """Of a problem that has none: what cannot be decided stays so."""
    return ()


def judge(
    problem: Problem,
    reference: Reference,
    run: Run,
    lanes: Iterable[Lane] = tuple(LANES.values()),
    windows: Callable[[bool], Sequence[Windows]] = no_windows,
    is_truth: bool = False,
) -> tuple[Finding, ...]:
    """Findings in the truth's order; ``windows(chaotic)`` is asked for only where something could not be decided.

    ``is_truth``: the side is itself the float64 truth, so that lane A is not among ``lanes``.
    """
    found: list[Finding] = []
    for lane in lanes:
        result = run(problem, lane.dtype)
        found += compare(problem, reference, result, lane)
        if lane.dtype == "float64":
            found += _homogeneity(problem, reference, run, result)
    if reference.shifted is not None and any(_fades(f) for f in found):
        found += _shifted(problem, reference, run, found)
    doubtful = [f for f in found if f.verdict is Outcome.INCONCLUSIVE]
    if doubtful:
        chaotic = any(f.check == FLOAT64 for f in doubtful)
        try:
            found += [finding for window in windows(chaotic) for finding in _forced(window)]
        except Exception as error:  # a port that runs at its own sizes only
            text = f"windows could not be run: {(str(error).splitlines() or [''])[0]}"
            found.append(Finding("windows", Check(None, Kind.FAILED), Outcome.INCONCLUSIVE, None, None, note=text))
    order = {name: n for n, name in enumerate(reference.truth)}
    return tuple(sorted(settled(found, is_truth), key=lambda f: order.get(f.quantity, -1)))


def _fades(finding: Finding) -> bool:
    """Is it too small for float32?"""
    return finding.check == FLOAT32 and finding.verdict is Outcome.VACUOUS


def _homogeneity(problem: Problem, reference: Reference, run: Run, result: Arrays) -> list[Finding]:
    """Gradients at 2^20 times the cotangents, in float64. A reference that is not linear itself asks nothing."""
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


def _nonlinearities(names, small, large):
    return {name: nonlinearity(small[name], large.get(name)) for name in names}


def nonlinearity(small: np.ndarray, large: np.ndarray | None) -> float:
    """The largest difference of 2^20 · small and large, relative to the largest number; 0 where all bits agree."""
    if large is None or np.shape(small) != np.shape(large):
        return float("inf")
    expected = small * 2.0**PROBE
    known = np.isfinite(expected) & (np.abs(small) > _NORMAL)
    if not known.any() or np.array_equal(large[known], expected[known]):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.max(np.abs(large[known] - expected[known])) / np.max(np.abs(expected[known]))
    return float(off) if np.isfinite(off) else float("inf")


def _shifted(problem, reference, run, found) -> list[Finding]:
    """Of gradients that were in part vacuous in lane B: the same at larger cotangents."""
    doubtful = {f.quantity for f in found if _fades(f) and is_gradient(f.quantity)}
    lifted = problem.scaled(2.0**reference.shifted.power)
    result = run(lifted, "float32")
    known = replace(
        reference.shifted, truth={name: a for name, a in reference.shifted.truth.items() if name in doubtful}
    )
    result = {name: a for name, a in result.items() if name in doubtful}
    text = f"cotangents times 2^{reference.shifted.power}"
    return compare(lifted, known, result, replace(LANES["B"], check=LOSS_SCALED), text)


def _forced(window: Windows) -> list[Finding]:
    findings = []
    for lane in window.lanes:
        check = Check(lane.dtype, window.kind, window.steps)
        result = window.run(window.problem, lane.dtype)
        findings += compare(window.problem, window.reference, result, replace(lane, check=check))
    return findings


def settled(findings: Sequence[Finding], is_truth: bool = False) -> list[Finding]:
    """Marks what one lane could not decide and another did.

    Vacuous slices of lane B by "B shifted" or lane A, which a side that is the truth does not need; inconclusive ones
    by all windows.
    """
    by_key = {(f.quantity, f.part, f.check): f for f in findings}
    forced = [f for f in findings if f.check.stands_in]
    windows_agree = bool(forced) and all(f.ok for f in forced)
    return [_settle(f, by_key, windows_agree, is_truth) for f in findings]


def _settle(finding: Finding, by_key, windows_agree: bool, is_truth: bool) -> Finding:
    rows = finding.rows
    if rows is None or finding.verdict in (Outcome.AGREE, Outcome.DISAGREE):
        return finding
    open_rows, words = rows.rest.copy(), []
    inconclusive = rows.outcomes == SEVERITY.index(Outcome.INCONCLUSIVE)
    if windows_agree and inconclusive.any():
        words.append(WINDOWS)
        open_rows &= ~inconclusive
    vacuous = rows.outcomes == SEVERITY.index(Outcome.VACUOUS)
    if finding.check in (FLOAT32, LOSS_SCALED):
        for check in (LOSS_SCALED, FLOAT64):
            other = by_key.get((finding.quantity, finding.part, check))
            if other is None or other.rows is None or check == finding.check:
                continue
            done = open_rows & vacuous & (other.rows.outcomes == SEVERITY.index(Outcome.AGREE))
            if done.any():
                words.append(f"{int(done.sum())} of {done.size} " * (done.size > 1) + f"by lane {check}")
            open_rows &= ~done
        if is_truth and (done := open_rows & vacuous & (rows.size >= LANES["A"].tiny)).any():
            words.append(f"{int(done.sum())} of {done.size} by float64, in which this side is the truth")
            open_rows &= ~done
    kept = replace(rows, rest=open_rows)
    return replace(finding, rows=kept, settled="" if open_rows.any() else ", ".join(words))
