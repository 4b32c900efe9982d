"""Is a pair an LSTM? Then windows, diagnosis and the proof that its inputs are not degenerate apply to it.

It is one if its parameters are a torch LSTM's state dict, its inputs x or x, h and c, its outputs y, h_n and c_n, and
the reference computes the same numbers from them.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np

from crosscheck.cases import RecurrentCase
from crosscheck.problem import Arrays, Problem
from crosscheck.sides import torch_ref
from jax_lstm.network import read_network

INPUTS = ("x", "h0", "c0")
OUTPUTS = ("y", "h_n", "c_n")


def as_lstm(problem: Problem, truth: Arrays) -> tuple[RecurrentCase, Problem] | None:
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
            network.input_size,
            network.hidden_size,
            num_layers=network.num_layers,
            bias=network.bias,
            bidirectional=network.bidirectional,
            proj_size=network.proj_size,
            time_major=time_major,
            weights=problem.params,
        )
        canonical = _canonical(case, problem, leaves)
        if canonical is not None and _same(case, canonical, problem, truth):
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


def _same(case, canonical, problem, truth) -> bool:
    expected = torch_ref.runner(case)(replace(canonical, wrt=()), "float64")
    names = zip(problem.output_names, OUTPUTS, strict=True)
    if any(np.shape(truth[name]) != expected[own].shape for name, own in names):
        return False
    y, own = truth[problem.output_names[0]], expected["y"]
    first = np.take(own, 0, case.time_axis)[..., : case.proj_size or case.hidden_size]
    at_once = np.take(y, 0, case.time_axis)[..., : first.shape[-1]]  # before a chaotic network can amplify rounding
    near = lambda a, b: np.allclose(a, b, rtol=1e-9, atol=1e-9)
    return near(y, own) or (not (case.bidirectional and case.num_layers > 1) and near(at_once, first))
