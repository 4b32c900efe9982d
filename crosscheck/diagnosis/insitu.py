"""Which gate is wrong at a position of the sequence where single steps, taken out of it, are all right.

Nothing can be set at that step but the whole history before it, so many random sequences end there. What c' is off by
is explained by one gate if it is that gate's partner times some function of that gate's own pre-activation: c · φ(z_f),
g · φ(z_i) or i · φ(z_g). The gate whose φ, in steps, leaves least unexplained is named, if it stands out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.diagnosis.port import WRONG, Port
from crosscheck.problem import Problem
from crosscheck.trajectory import gates, trajectory

SAMPLES = 4096  # numbers of c', over batch and hidden units
BINS = 24
STANDS_OUT = 0.5  # of the variance that the runner-up leaves


def wrong_gates_at(port: Port, problem: Problem, step: int, dtype: str) -> tuple[int, list[str]] | None:
    """(row, gates) of the first wrong forward row at ``step``; None where a sequence that ends there is right."""
    case = replace(port.case, batch=-(-SAMPLES // port.case.hidden_size), steps=step + 1, lengths=None, loss="all")
    case = replace(case, weights=problem.params)
    fresh = port.draw(case)
    result = port.run(case, fresh, dtype)
    for n, row in enumerate(trajectory(case, fresh)):
        if row.suffix:
            continue
        h, c = (np.asarray(result[name][n], np.float64) for name in ("h_n", "c_n"))
        true_h, true_c = (state[-1] for state in row.states)
        wrong_c = _any_off(c, true_c, WRONG[dtype])
        if not wrong_c and not _any_off(h, true_h, WRONG[dtype]):
            continue
        if not wrong_c:
            return n, ["h'" if case.proj_size else "o"]
        return n, _explain(c - true_c, gates(case, fresh, row, step), row.states[1][step])
    return None


def _any_off(a, b, limit):
    return bool(np.any(~(np.abs(a - b) <= limit * max(1.0, float(np.max(np.abs(b)))))))


def _explain(away, gate, c) -> list[str]:
    partners = {"f": c, "i": gate["g"], "g": gate["i"]}
    left = {name: _unexplained(away, partner, gate[f"z_{name}"]) for name, partner in partners.items()}
    order = sorted(left, key=lambda name: left[name])
    return order[:1] if left[order[0]] <= STANDS_OUT * left[order[1]] else order


def _unexplained(away, partner, z) -> float:
    """What partner · φ(z) leaves of ``away``, φ linear in each of several bins."""
    away, partner, z = away.ravel(), partner.ravel(), z.ravel()
    bins = np.searchsorted(np.quantile(z, np.linspace(0, 1, BINS + 1)[1:-1]), z)
    left = 0.0
    for n in range(BINS):
        inside = bins == n
        features = np.stack([partner[inside], (partner * z)[inside]], 1)
        found, *_ = np.linalg.lstsq(features, away[inside], rcond=None)
        left += float(np.sum((away[inside] - features @ found) ** 2))
    return left / float(np.sum(away**2))
