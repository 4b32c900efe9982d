"""Teacher forcing: a problem that stands in for a chaotic one, which disagrees with itself only after many steps.

The sequence is cut into short stretches. Each stretch starts from the reference's own states, and all
stretches are the rows of one batch. Stretches of one step cover every step. Stretches of a few steps also cover what
carries over between steps, and the order of outputs and gradients in time. Cotangents are random.

No stretch can see a mistake that depends on the position in the whole sequence. `crosscheck.lstm.damping` can.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.problem import Gradient, Problem
from crosscheck.core.slices import TIME, Slicing
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import gate_slicings
from crosscheck.lstm.trajectory import trace_states

SIZES = (1, 4)
MOST_ROWS = 20_000


def teacher_forced(case: RecurrentCase, problem: Problem, size: int) -> tuple[RecurrentCase, Problem]:
    """Return a case whose rows are the stretches, and its problem.

    Args:
      case: the network.
      problem: the problem.
      size: the number of steps per stretch.

    Returns:
      The case and the problem. The slices of y, dx and states are the stretches, named by the step they start at.
    """
    rows = trace_states(case, problem)
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
    y = np.empty((*x.shape[:2], rows[0].states[0].shape[-1] * len(case.suffixes)))
    if not time_major:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
    starts_at = tuple(str(s) for s in starts)
    of_y, of_state = Slicing(1 - small.time_axis, TIME, starts_at), Slicing(1, TIME, starts_at)
    slicings = gate_slicings(problem.params) | {"y": of_y, Gradient("x"): of_y}
    slicings |= {n: of_state for s in case.state_names for n in (f"{s}_n", Gradient(f"{s}0"))}
    return small, replace(
        problem,
        inputs=(x, tuple(firsts) if case.kind == "lstm" else firsts[0]),
        cotangents=tuple(rng.normal(size=shape) for shape in (y.shape, *(a.shape for a in firsts))),
        slicings=slicings,
    )
