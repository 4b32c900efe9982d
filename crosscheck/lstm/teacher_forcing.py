"""Teacher forcing: the same network over many short windows, each of which starts from the reference's own states.

A chaotic model disagrees with itself after some hundred steps, but not within one. All windows are the rows of one
batch: one step each, every step of the sequence among them, and a few steps each, so that what carries over between
steps and the order of outputs and gradients in time are compared as well. Cotangents are random. What is specific to a
position in the whole sequence is out of their reach: for that the same sequence runs with smaller recurrent weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from crosscheck.core.problem import Problem, gradient_name
from crosscheck.core.slices import Cut, gate_cuts
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.trajectory import trajectory

SIZES = (1, 4)
MOST_ROWS = 20_000
HALVINGS = 6


def cut_into_windows(case: RecurrentCase, problem: Problem, size: int) -> tuple[RecurrentCase, Problem]:
    """A case whose rows are the windows, and its problem; the slices of y, dx and states are the windows."""
    rows = trajectory(case, problem)
    total, batch = rows[0].inputs.shape[:2]
    starts = np.arange(0, total - size + 1, size)
    stride = -(-starts.size * batch // MOST_ROWS)
    starts = starts[::stride]
    x = np.concatenate([rows[0].inputs[s : s + size] for s in starts], axis=1)
    firsts = []
    for k in range(len(rows[0].states)):
        per_row = [row.states[k][starts + size if row.suffix else starts] for row in rows]
        firsts.append(np.stack([a.reshape(-1, a.shape[-1]) for a in per_row]))
    lengths = None
    if case.lengths is not None:
        left = np.clip(np.asarray(case.lengths)[None, :] - starts[:, None], 0, size)
        lengths = tuple(int(n) for n in left.ravel())
    time_major = case.time_major and case.batch is not None
    small = replace(case, batch=x.shape[1], steps=size, time_major=time_major, lengths=lengths, loss="all")
    rng = np.random.default_rng([case.seed, size])
    y = np.empty((*x.shape[:2], rows[0].states[0].shape[-1] * (2 if case.bidirectional else 1)))
    if not time_major:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
    by_window = tuple(str(s) for s in starts)
    of_y, of_state = Cut(1 - small.time_axis, "t", by_window), Cut(1, "t", by_window)
    states = {n: of_state for s in case.state_names for n in (f"{s}_n", gradient_name(f"{s}0"))}
    gates = gate_cuts(problem.params) if case.kind == "lstm" else {}
    return small, replace(
        problem,
        inputs=(x, tuple(firsts) if case.kind == "lstm" else firsts[0]),
        cotangents=tuple(rng.normal(size=shape) for shape in (y.shape, *(a.shape for a in firsts))),
        cuts={"y": of_y, "grad x": of_y, **states, **{gradient_name(n): cut for n, cut in gates.items()}},
    )


def calmed(problem: Problem, undecided: Callable[[Problem], bool]) -> Problem | None:
    """The problem with recurrent weights halved until it is no more ``undecided``; None where that is never."""
    for halvings in range(1, HALVINGS + 1):
        params = {n: a / 2**halvings if "weight_hh" in n else a for n, a in problem.params.items()}
        calm = replace(problem, params=params)
        if not undecided(calm):
            return calm
    return None
