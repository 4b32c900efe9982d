"""Which gate of a single step is wrong, told from outside.

A step is c' = f ∘ c + i ∘ g, h' = o ∘ tanh(c'), and no gate depends on c. So two runs that differ in c alone give f as
the slope of c' and i ∘ g as the rest; a third tells whether c' is linear in c at all; h' / tanh(c') is o. i and g come
apart by other weights for one of the two: the ratio of i ∘ g before and after is then the ratio of that gate alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.problem import Problem
from crosscheck.diagnosis.port import WRONG, Port
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES
from crosscheck.lstm.trajectory import Row, gates, trajectory

SLACK = 1e3  # a quotient of differences loses digits
WORDS = {
    "i": "gate i (input)",
    "f": "gate f (forget)",
    "g": "gate g (candidate)",
    "o": "gate o (output)",
    "c": "the cell update, which is not f ∘ c + i ∘ g",
    "h": "the output nonlinearity: h is not o ∘ tanh(c)",
    "h'": "the projection or the output gate",
}


def wrong_gates(port: Port, case: RecurrentCase, problem: Problem, row: int, dtype: str) -> list[str]:
    """Keys of WORDS; ``case`` and ``problem`` are of one step, and ``row`` is a layer and direction."""
    case, problem = _without_padding(case, problem)
    limit = WRONG[dtype] * SLACK
    known = trajectory(case, problem)[row]
    true = gates(case, problem, known, 0)
    c = known.states[1][1 if known.suffix else 0]
    runs = [_step(port, case, _with_c(problem, row, c + k), row, dtype) for k in (0.0, 1.0, 2.0)]
    slopes = [runs[1][1] - runs[0][1], runs[2][1] - runs[1][1]]
    if _differ(slopes[0], slopes[1], limit):
        return ["c"]
    forget, candidate = slopes[0], runs[0][1] - slopes[0] * c
    found = ["f"] if _differ(forget, true["f"], limit) else []
    if _differ(candidate, true["i"] * true["g"], limit):
        found += _input_or_candidate(port, case, problem, row, known, (runs[0][1], forget * c), dtype, limit)
    return found + _output(case, runs, true, limit)


def _without_padding(case: RecurrentCase, problem: Problem) -> tuple[RecurrentCase, Problem]:
    """Rows of length 0 keep their state, and are no step."""
    if case.lengths is None:
        return case, problem
    rows = np.flatnonzero(case.lengths)
    x, states = problem.inputs
    y, *last = problem.cotangents
    of_batch = lambda a: np.take(a, rows, axis=1 - case.time_axis)
    inputs = (of_batch(x), tuple(a[:, rows] for a in states))
    cotangents = (of_batch(y), *(a[:, rows] for a in last))
    small = replace(case, batch=len(rows), lengths=None)
    return small, replace(problem, inputs=inputs, cotangents=cotangents, slicings={})


def _input_or_candidate(port, case, problem, row, known, base, dtype, limit) -> list[str]:
    """Other weights for gate i (or g): does i ∘ g change as it should?"""
    before = base[0] - base[1]
    true = gates(case, problem, known, 0)
    wrong = []
    for gate in ("i", "g"):
        other = _with_gate(problem, known, gate, np.random.default_rng(3))
        after = _step(port, case, other, row, dtype)[1] - base[1]
        moved = gates(case, other, known, 0)
        sure = (np.abs(before) > 1e-2) & (np.abs(true[gate]) > 1e-2)
        if not sure.any():
            continue
        ratio, expected = after[sure] / before[sure], moved[gate][sure] / true[gate][sure]
        if _differ(ratio, expected, limit):
            wrong.append(gate)
    return wrong or ["i", "g"]


def _output(case, runs, true, limit) -> list[str]:
    h, c = runs[0]
    if case.proj_size:
        return []  # h is a projection of o ∘ tanh(c), from which o cannot be read
    if not _differ(h, true["o"] * np.tanh(c), limit):
        return []
    sure = (np.abs(runs[0][1]) > 1e-2) & (np.abs(runs[1][1]) > 1e-2)
    by_c = [(run[0] / np.where(sure, np.tanh(run[1]), 1.0))[sure] for run in runs[:2]]
    return ["h"] if _differ(by_c[1], by_c[0], limit) else ["o"]


def _differ(got, expected, limit) -> bool:
    return bool(np.any(~(np.abs(got - expected) <= limit * (1.0 + np.abs(expected)))))


def _step(port: Port, case, problem, row, dtype):
    result = port.run(case, problem, dtype)
    return tuple(np.asarray(result[name][row], np.float64) for name in ("h_n", "c_n"))


def _with_c(problem: Problem, row: int, c: np.ndarray) -> Problem:
    x, (h, old) = problem.inputs
    new = np.array(old)
    new[row] = c
    return replace(problem, inputs=(x, (h, new)))


def _with_gate(problem: Problem, known: Row, gate: str, rng) -> Problem:
    """Weights of one gate drawn anew; biases, whose rule may be wrong, are left."""
    params = dict(problem.params)
    for name in ("weight_ih", "weight_hh"):
        name = f"{name}_l{known.layer}{known.suffix}"
        weight = np.array(params[name], np.float64)
        block = np.split(weight, 4)[GATES.index(gate)]  # a view
        block[:] = rng.uniform(-1, 1, block.shape) / np.sqrt(block.shape[1])
        params[name] = weight
    return replace(problem, params=params)
