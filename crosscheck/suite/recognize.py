"""Is a pair an LSTM? Then teacher forcing, diagnosis and the check of the inputs apply to it.

It is one if its parameters are the state dict of a torch LSTM, its inputs are x or x, h and c, its outputs are y, h_n
and c_n, and the reference computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import jax
import numpy as np

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Problem, Results
from crosscheck.libraries import torch_ref
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm._src.network import read_network

FEW = 4
INPUTS = ("x", "h0", "c0")
OUTPUTS = ("y", "h_n", "c_n")


def as_lstm(
    problem: Problem, truth: Results, run: Callable[[Problem], Results]
) -> tuple[RecurrentCase, Problem] | None:
    """Return the network, and the problem under the names of cases; None if the pair is no LSTM.

    Args:
      problem: the problem under the user's names. Without states the returned one has zero states.
      truth: the results of the torch module in float64.
      run: runs the torch module in float64.
    """
    leaves = [np.asarray(a) for a in jax.tree.leaves(problem.inputs)]
    if len(leaves) not in (1, 3) or len(problem.output_names) != 3 or any(a.dtype.kind != "f" for a in leaves):
        return None
    try:
        network = read_network(dict(problem.params), "lstm")
    except (TypeError, ValueError):
        return None
    x = leaves[0]
    if x.ndim not in (2, 3) or x.shape[-1] != network.input_size:
        return None
    for time_major in (False, True):
        batched = x.ndim == 3
        batch = x.shape[1 if time_major else 0] if batched else None
        steps = x.shape[0 if time_major or not batched else 1]
        case = RecurrentCase("pair", "", batch, steps, **asdict(network), time_major=time_major, weights=problem.params)
        canonical = _canonical(case, problem, leaves)
        if canonical is not None and _is_same(case, canonical, problem, truth, run):
            return case, canonical
    return None


def _canonical(case: RecurrentCase, problem: Problem, leaves: Sequence[np.ndarray]) -> Problem | None:
    drawn = case.problem
    _, (h, c) = drawn.inputs
    states = leaves[1:] or [np.zeros_like(h), np.zeros_like(c)]
    if [np.shape(a) for a in states] != [h.shape, c.shape]:
        return None
    if [np.shape(a) for a in problem.cotangents] != [np.shape(a) for a in drawn.cotangents]:
        return None
    return replace(drawn, inputs=(leaves[0], tuple(states)), cotangents=problem.cotangents)


def _is_same(
    case: RecurrentCase, canonical: Problem, problem: Problem, truth: Results, run: Callable[[Problem], Results]
) -> bool:
    """Compare the whole sequence, or else a few steps: a chaotic network differs from itself after many."""
    if _is_equal(case, canonical, problem, truth):
        return True
    few = replace(case, steps=min(case.steps, FEW))
    x, *states = jax.tree.leaves(problem.inputs)
    y, *last = problem.cotangents
    x, y = few.first_steps(x), few.first_steps(y)
    short = replace(problem, inputs=problem.with_leaves([x, *states]), cotangents=(y, *last), wrt=())
    short_canonical = replace(canonical, inputs=(x, canonical.inputs[1]), cotangents=short.cotangents)
    try:
        return _is_equal(few, short_canonical, short, run(short))
    except (CouldNotRun, ValueError):  # such as packing with lengths that exceed these steps
        return False


def _is_equal(case: RecurrentCase, canonical: Problem, problem: Problem, truth: Results) -> bool:
    expected = torch_ref.runner(case)(replace(canonical, wrt=()), "float64")
    return all(
        np.shape(truth[name]) == expected[known].shape
        and np.allclose(truth[name], expected[known], rtol=1e-9, atol=1e-9)
        for name, known in zip(problem.output_names, OUTPUTS, strict=True)
    )
