"""Which gate is wrong at a step of the sequence, if all single steps that start from the reference's states are right.

Only the inputs before this step can be chosen. Therefore many random sequences end there. One gate explains the error
of c' if the error is the gate's partner times a function of the gate's own pre-activation: c · φ(z_f), g · φ(z_i) or
i · φ(z_g).
The result is the gate whose φ leaves the least unexplained, if it is clearly the best.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from crosscheck.core.errors import OnlyOwnSizes
from crosscheck.core.problem import Arrays, Problem, Results
from crosscheck.diagnosis.single_step import CellPart
from crosscheck.diagnosis.subject import WRONG, Subject
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.trajectory import gates, trace_states

ROWS = (32, 512)  # the least and the most sequences
NUMBERS = 200_000  # sequences times steps, within these bounds
DRAWS = 32  # runs of an implementation that runs only with its own batch size
BINS = 8
EXPLAINED = 0.05  # share of the variance: if more is left, no gate explains the error
STANDS_OUT = 0.5  # share of the variance that the second best gate leaves


def wrong_gates_at(subject: Subject, step: int, dtype: str) -> tuple[int, list[CellPart]] | None:
    """Return (row, wrong parts) of the first wrong forward row at ``step``; None if sequences that end there agree."""
    case, runs = _runs(subject, step, dtype)
    paths = [trace_states(case, fresh) for fresh, _ in runs]
    for n, suffix in enumerate(row[1] for row in case.layers_and_directions()):
        if suffix:
            continue
        h, c = (_joined(result[name][n] for _, result in runs) for name in ("h_n", "c_n"))
        true_h, true_c = (_joined(path[n].states[k][-1] for path in paths) for k in (0, 1))
        wrong_c = _any_wrong(c, true_c, WRONG[dtype])
        if not wrong_c and not _any_wrong(h, true_h, WRONG[dtype]):
            continue
        if not wrong_c:
            return n, ["h'" if case.proj_size else "o"]
        each = [gates(fresh, path[n], step) for (fresh, _), path in zip(runs, paths, strict=True)]
        gate = {name: _joined(one[name] for one in each) for name in each[0]}
        return n, _explain(c - true_c, gate, _joined(path[n].states[1][step] for path in paths))
    return None


def _runs(subject: Subject, step: int, dtype: str) -> tuple[RecurrentCase, list[tuple[Problem, Results]]]:
    """Run random sequences that end at ``step``: in one large batch, or in many batches of the subject's own size."""
    own = replace(subject.case, steps=step + 1, lengths=None, loss="all", weights=subject.problem.params)
    large = replace(own, batch=int(np.clip(NUMBERS // (step + 1), *ROWS)))
    fresh = subject.draw(large)
    try:
        return large, [(fresh, subject.run(large, fresh, dtype))]
    except OnlyOwnSizes:
        draws = [subject.draw(replace(own, seed=n)) for n in range(DRAWS)]
        return own, [(fresh, subject.run(own, fresh, dtype)) for fresh in draws]


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(a, np.float64) for a in parts])


def _any_wrong(a: np.ndarray, b: np.ndarray, limit: float) -> bool:
    return bool(np.any(~(np.abs(a - b) <= limit * max(1.0, float(np.max(np.abs(b)))))))


def _explain(away: np.ndarray, gate: Arrays, c: np.ndarray) -> list[CellPart]:
    if not np.isfinite(away).all():
        return []
    partners: dict[CellPart, np.ndarray] = {"f": c, "i": gate["g"], "g": gate["i"]}
    left = {name: _unexplained(away, partner, gate[f"z_{name}"]) for name, partner in partners.items()}
    order = sorted(left, key=lambda name: left[name])
    if left[order[0]] > EXPLAINED:
        return []
    return order[:1] if left[order[0]] <= STANDS_OUT * left[order[1]] else order


def _unexplained(away: np.ndarray, partner: np.ndarray, z: np.ndarray) -> float:
    """Return what partner · φ(z) leaves of ``away`` ``[N, H]``. φ of each unit is linear in each of several bins."""
    left = 0.0
    for unit in range(away.shape[1]):
        y, p, at = away[:, unit], partner[:, unit], z[:, unit]
        bins = np.searchsorted(np.quantile(at, np.linspace(0, 1, BINS + 1)[1:-1]), at)
        for inside in (bins == n for n in range(BINS)):
            features = np.stack([p[inside], (p * at)[inside]], 1)
            coefficients, *_ = np.linalg.lstsq(features, y[inside], rcond=None)
            left += float(np.sum((y[inside] - features @ coefficients) ** 2))
    return left / float(np.sum(away**2))
