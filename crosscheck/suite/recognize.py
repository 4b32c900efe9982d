"""Is a pair an LSTM? Then windows, diagnosis and the proof that its inputs are not degenerate apply to it.

It is one if its parameters are a torch LSTM's state dict, its inputs x or x, h and c, its outputs y, h_n and c_n, and
the reference computes the same numbers from them.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """The network, and the problem under the names that cases use, with zero states where it has none; or None."""
    leaves = [np.asarray(a) for a in jax.tree.leaves(problem.inputs)]
    if len(leaves) not in (1, 3) or len(problem.output_names) != 3 or any(a.dtype.kind != "f" for a in leaves):
        return None
    try:
        network = read_network(dict(problem.params), "lstm")
    except (TypeError, ValueError):
        return None
    if leaves[0].ndim not in (2, 3) or leaves[0].shape[-1] != network.input_size:
        return None
    for time_major in (False, True):
        x = leaves[0]
        batched = x.ndim == 3
        case = RecurrentCase(
            "pair",
            "",
            x.shape[1 if time_major else 0] if batched else None,
            x.shape[0 if time_major or not batched else 1],
            **asdict(network),
            time_major=time_major,
            weights=problem.params,
        )
        canonical = _canonical(case, problem, leaves)
        if canonical is not None and _same(case, canonical, problem, truth, run):
            return case, canonical
    return None


def _canonical(case: RecurrentCase, problem: Problem, leaves) -> Problem | None:
    like = case.problem
    _, (h, c) = like.inputs
    states = leaves[1:] or [np.zeros_like(h), np.zeros_like(c)]
    if [np.shape(a) for a in states] != [h.shape, c.shape]:
        return None
    if [np.shape(a) for a in problem.cotangents] != [np.shape(a) for a in like.cotangents]:
        return None
    return replace(like, inputs=(leaves[0], tuple(states)), cotangents=problem.cotangents)


def _same(case, canonical, problem, truth, run) -> bool:
    """Over the whole sequence, or over a few steps: a chaotic network is not even equal to itself after many."""
    if _equal(case, canonical, problem, truth):
        return True
    steps = min(case.steps, FEW)
    few = replace(case, steps=steps)
    cut = lambda a: np.take(a, np.arange(steps), axis=case.time_axis)
    x, *states = jax.tree.leaves(problem.inputs)
    y, *last = problem.cotangents
    short = replace(problem, inputs=problem.with_leaves([cut(x), *states]), cotangents=(cut(y), *last), wrt=())
    own = replace(canonical, inputs=(cut(x), canonical.inputs[1]), cotangents=short.cotangents)
    try:
        return _equal(few, own, short, run(short))
    except (CouldNotRun, ValueError):  # such as packing with lengths beyond these steps
        return False


def _equal(case, canonical, problem, truth) -> bool:
    expected = torch_ref.runner(case)(replace(canonical, wrt=()), "float64")
    return all(
        np.shape(truth[name]) == expected[own].shape and np.allclose(truth[name], expected[own], rtol=1e-9, atol=1e-9)
        for name, own in zip(problem.output_names, OUTPUTS, strict=True)
    )
