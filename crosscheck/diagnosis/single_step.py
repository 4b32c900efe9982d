"""Which gate of a single step is wrong, found from outside.

A step is c' = f ∘ c + i ∘ g and h' = o ∘ tanh(c'), and no gate depends on c. Two runs that differ only in c give f as
the slope of c', and i ∘ g as the rest. A third run shows whether c' is linear in c. o is h' / tanh(c'). To separate i
from g, one of the two gets other weights: the ratio of i ∘ g after and before is the ratio of this gate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from crosscheck.core.problem import Arrays, Problem
from crosscheck.diagnosis.subject import WRONG, Subject
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES, Gate
from crosscheck.lstm.trajectory import Row, gates, trace_states

SLACK = 1e3  # a quotient of differences loses digits
CellPart: TypeAlias = Literal["i", "f", "g", "o", "c", "h", "h'"]
CELL_PARTS: dict[CellPart, str] = {
    "i": "gate i (input)",
    "f": "gate f (forget)",
    "g": "gate g (candidate)",
    "o": "gate o (output)",
    "c": "the cell update, which is not f ∘ c + i ∘ g",
    "h": "the output nonlinearity: h is not o ∘ tanh(c)",
    "h'": "the projection or the output gate",
}


def wrong_gates(subject: Subject, case: RecurrentCase, problem: Problem, row: int, dtype: str) -> list[CellPart]:
    """Return the wrong parts of the cell.

    Args:
      subject: the implementation.
      case: a case of one step.
      problem: the problem of the case.
      row: the layer and direction.
      dtype: the dtype of the run.
    """
    case, problem = _without_padding(case, problem)
    known = trace_states(case, problem)[row]
    step = _Step(subject, case, problem, row, known, gates(problem, known, 0), dtype)
    c = known.states[1][1 if known.suffix else 0]
    runs = [step.run(_with_c(problem, row, c + k)) for k in (0.0, 1.0, 2.0)]
    slopes = [runs[1][1] - runs[0][1], runs[2][1] - runs[1][1]]
    if step.differ(slopes[0], slopes[1]):
        return ["c"]
    forget, candidate = slopes[0], runs[0][1] - slopes[0] * c
    wrong: list[CellPart] = ["f"] if step.differ(forget, step.true["f"]) else []
    if step.differ(candidate, step.true["i"] * step.true["g"]):
        wrong += step.input_or_candidate(runs[0][1], forget * c)
    return wrong + step.output(runs)


def _without_padding(case: RecurrentCase, problem: Problem) -> tuple[RecurrentCase, Problem]:
    """Leave out rows of length 0: they keep their state, and no step happens."""
    if case.lengths is None:
        return case, problem
    rows = np.flatnonzero(case.lengths)
    x, states = problem.inputs
    y, *last = problem.cotangents
    of_batch = partial(np.take, indices=rows, axis=1 - case.time_axis)
    inputs = (of_batch(x), tuple(a[:, rows] for a in states))
    cotangents = (of_batch(y), *(a[:, rows] for a in last))
    small = replace(case, batch=len(rows), lengths=None)
    return small, replace(problem, inputs=inputs, cotangents=cotangents, slicings={})


@dataclass(frozen=True)
class _Step:
    """One step of one layer and direction, and its true gates."""

    subject: Subject
    case: RecurrentCase
    problem: Problem
    row: int
    known: Row
    true: Arrays
    dtype: str

    def run(self, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
        """Return the implementation's new h and c."""
        result = self.subject.run(self.case, problem, self.dtype)
        h, c = (np.asarray(result[name][self.row], np.float64) for name in ("h_n", "c_n"))
        return h, c

    def differ(self, got: np.ndarray, expected: np.ndarray) -> bool:
        """Return whether some number differs by more than rounding."""
        return bool(np.any(~(np.abs(got - expected) <= WRONG[self.dtype] * SLACK * (1.0 + np.abs(expected)))))

    def input_or_candidate(self, new_c: np.ndarray, kept: np.ndarray) -> list[CellPart]:
        """Give gate i, then gate g, other weights. Return the gates for which i ∘ g does not change as it should."""
        before = new_c - kept
        wrong: list[CellPart] = []
        candidates: tuple[Gate, ...] = ("i", "g")
        for gate in candidates:
            other = _with_gate(self.problem, self.known, gate)
            after = self.run(other)[1] - kept
            sure = (np.abs(before) > 1e-2) & (np.abs(self.true[gate]) > 1e-2)
            if not sure.any():
                continue
            moved = gates(other, self.known, 0)[gate]
            if self.differ(after[sure] / before[sure], moved[sure] / self.true[gate][sure]):
                wrong.append(gate)
        return wrong or [*candidates]

    def output(self, runs: list[tuple[np.ndarray, np.ndarray]]) -> list[CellPart]:
        """Return what is wrong in h. With a projection of o ∘ tanh(c), o cannot be found from h."""
        h, c = runs[0]
        if self.case.proj_size or not self.differ(h, self.true["o"] * np.tanh(c)):
            return []
        sure = (np.abs(runs[0][1]) > 1e-2) & (np.abs(runs[1][1]) > 1e-2)
        by_c = [(run[0] / np.where(sure, np.tanh(run[1]), 1.0))[sure] for run in runs[:2]]
        return ["h"] if self.differ(by_c[1], by_c[0]) else ["o"]


def _with_c(problem: Problem, row: int, c: np.ndarray) -> Problem:
    x, (h, old) = problem.inputs
    new = np.array(old)
    new[row] = c
    return replace(problem, inputs=(x, (h, new)))


def _with_gate(problem: Problem, known: Row, gate: Gate) -> Problem:
    """Draw the weights of one gate again. Biases stay, since the bias rule may be what is wrong."""
    rng, params = np.random.default_rng(3), dict(problem.params)
    for name in (f"{kind}_l{known.layer}{known.suffix}" for kind in ("weight_ih", "weight_hh")):
        weight = np.array(params[name], np.float64)
        block = np.split(weight, 4)[GATES.index(gate)]  # a view
        block[:] = rng.uniform(-1, 1, block.shape) / np.sqrt(block.shape[1])
        params[name] = weight
    return replace(problem, params=params)
