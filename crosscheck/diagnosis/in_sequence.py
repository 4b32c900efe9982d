"""Which gate is wrong at a position of the sequence where single steps, taken out of it, are all right.

Nothing can be set at that step but the whole history before it, so many random sequences end there. What c' is off by
is explained by one gate if it is that gate's partner times some function of that gate's own pre-activation: c · φ(z_f),
g · φ(z_i) or i · φ(z_g). The gate whose φ leaves least unexplained is named, if it stands out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.problem import Problem, Results
from crosscheck.diagnosis.port import WRONG, Port
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.trajectory import gates, trajectory

ROWS = (32, 512)  # at least and at most so many sequences
NUMBERS = 200_000  # of sequences times steps, where that leaves enough of them
DRAWS = 32  # of a port that runs with its own number of rows alone
BINS = 8
EXPLAINED = 0.05  # of the variance: more than that left, and it is no gate
STANDS_OUT = 0.5  # of the variance that the runner-up leaves


def wrong_gates_at(port: Port, problem: Problem, step: int, dtype: str) -> tuple[int, list[str]] | None:
    """(row, gates) of the first wrong forward row at ``step``; None where a sequence that ends there is right."""
    case, runs = _runs(port, problem, step, dtype)
    paths = [trajectory(case, fresh) for fresh, _ in runs]
    for n, suffix in enumerate(row[1] for row in case.layers_and_directions()):
        if suffix:
            continue
        join = lambda parts: np.concatenate([np.asarray(a, np.float64) for a in parts])
        h, c = (join(result[name][n] for _, result in runs) for name in ("h_n", "c_n"))
        true_h, true_c = (join(path[n].states[k][-1] for path in paths) for k in (0, 1))
        wrong_c = _any_off(c, true_c, WRONG[dtype])
        if not wrong_c and not _any_off(h, true_h, WRONG[dtype]):
            continue
        if not wrong_c:
            return n, ["h'" if case.proj_size else "o"]
        found = [gates(case, fresh, path[n], step) for (fresh, _), path in zip(runs, paths, strict=True)]
        gate = {name: join(one[name] for one in found) for name in found[0]}
        return n, _explain(c - true_c, gate, join(path[n].states[1][step] for path in paths))
    return None


def _runs(port: Port, problem: Problem, step: int, dtype: str) -> tuple[RecurrentCase, list[tuple[Problem, Results]]]:
    """Random sequences that end at ``step`` and the port's results: one large batch, or many of the port's own size."""
    own = replace(port.case, steps=step + 1, lengths=None, loss="all", weights=problem.params)
    large = replace(own, batch=int(np.clip(NUMBERS // (step + 1), *ROWS)))
    try:
        fresh = port.draw(large)
        return large, [(fresh, port.run(large, fresh, dtype))]
    except Exception:  # it has its batch size written into it
        draws = [port.draw(replace(own, seed=n)) for n in range(DRAWS)]
        return own, [(fresh, port.run(own, fresh, dtype)) for fresh in draws]


def _any_off(a, b, limit):
    return bool(np.any(~(np.abs(a - b) <= limit * max(1.0, float(np.max(np.abs(b)))))))


def _explain(away, gate, c) -> list[str]:
    partners = {"f": c, "i": gate["g"], "g": gate["i"]}
    left = {name: _unexplained(away, partner, gate[f"z_{name}"]) for name, partner in partners.items()}
    order = sorted(left, key=lambda name: left[name])
    if left[order[0]] > EXPLAINED:
        return []
    return order[:1] if left[order[0]] <= STANDS_OUT * left[order[1]] else order


def _unexplained(away, partner, z) -> float:
    """What partner · φ(z) leaves of ``away`` [N, H], φ of each unit linear in each of several bins."""
    left = 0.0
    for unit in range(away.shape[1]):
        y, p, at = away[:, unit], partner[:, unit], z[:, unit]
        bins = np.searchsorted(np.quantile(at, np.linspace(0, 1, BINS + 1)[1:-1]), at)
        for inside in (bins == n for n in range(BINS)):
            features = np.stack([p[inside], (p * at)[inside]], 1)
            found, *_ = np.linalg.lstsq(features, y[inside], rcond=None)
            left += float(np.sum((y[inside] - features @ found) ** 2))
    return left / float(np.sum(away**2))
