"""The states that a recurrent network passes through, in NumPy and float64. Teacher forcing starts from them.

This is a third implementation of the equations, beside jax_lstm and torch_ref. Only this one keeps the states of
every layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from crosscheck.core.problem import Arrays, Problem
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES

States = tuple[np.ndarray, ...]  # h and c; only h for an RNN


@dataclass(frozen=True)
class Row:
    """One layer in one direction.

    Attributes:
      layer: the layer.
      suffix: "" for the forward direction, "_reverse" for the other one.
      inputs: ``[T, B, in]``.
      states: each ``[T + 1, B, P or H]``. A run over the steps t, t+1, ... starts from index t (forward); a run over
        t-1, t-2, ... starts from index t (reverse).
    """

    layer: int
    suffix: str
    inputs: np.ndarray
    states: States


def trace_states(case: RecurrentCase, problem: Problem) -> list[Row]:
    """Return every layer and direction of the network over the problem's inputs, in torch's order."""
    x, *first = (np.asarray(a, np.float64) for a in problem.input_leaves.values())
    if case.batch is None:
        x, first = x[None], [a[:, None] for a in first]
    steps = x if case.time_axis == 0 and case.batch is not None else x.swapaxes(0, 1)
    total, batch = steps.shape[:2]
    lengths = np.full(batch, total) if case.lengths is None else np.asarray(case.lengths)
    valid = (np.arange(total)[:, None] < lengths)[..., None]
    rows: list[Row] = []
    for layer in range(case.num_layers):
        steps, outputs = np.where(valid, steps, 0.0), []
        for suffix in case.suffixes:
            weights = _weights(problem, f"_l{layer}{suffix}")
            states = _run(case, weights, steps, tuple(a[len(rows)] for a in first), valid, bool(suffix))
            rows.append(Row(layer, suffix, steps, states))
            h = states[0][:-1] if suffix else states[0][1:]
            outputs.append(np.where(valid, h, 0.0))
        steps = np.concatenate(outputs, -1)
    return rows


def gates(problem: Problem, row: Row, t: int) -> Arrays:
    """Return the pre-activations z_i, z_f, z_g, z_o and the gates i, f, g, o of one step, ``[B, H]`` each."""
    weights = _weights(problem, f"_l{row.layer}{row.suffix}")
    h = row.states[0][t + 1 if row.suffix else t]
    return _gates(_preactivation(weights, row.inputs[t], h))


def _run(
    case: RecurrentCase, weights: Arrays, inputs: np.ndarray, first: States, valid: np.ndarray, reverse: bool
) -> States:
    total = inputs.shape[0]
    states = tuple(np.empty((total + 1, *a.shape)) for a in first)
    now = first
    for kept, a in zip(states, first, strict=True):
        kept[total if reverse else 0] = a
    for t in range(total)[:: -1 if reverse else 1]:
        new = _step(case, weights, inputs[t], now)
        now = tuple(np.where(valid[t], a, b) for a, b in zip(new, now, strict=True))
        for kept, a in zip(states, now, strict=True):
            kept[t if reverse else t + 1] = a
    return states


def _step(case: RecurrentCase, weights: Arrays, x: np.ndarray, state: States) -> States:
    z = _preactivation(weights, x, state[0])
    if case.kind == "rnn":
        return (np.tanh(z) if case.nonlinearity == "tanh" else np.maximum(z, 0.0),)
    gate = _gates(z)
    c = gate["f"] * state[1] + gate["i"] * gate["g"]
    h = gate["o"] * np.tanh(c)
    return (h @ weights["weight_hr"].T if "weight_hr" in weights else h), c


def _gates(z: np.ndarray) -> Arrays:
    blocks = dict(zip(GATES, np.split(z, 4, axis=-1), strict=True))
    acted: Arrays = {gate: np.tanh(a) if gate == "g" else expit(a) for gate, a in blocks.items()}
    return {f"z_{gate}": a for gate, a in blocks.items()} | acted


def _preactivation(weights: Arrays, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    z: np.ndarray = x @ weights["weight_ih"].T + h @ weights["weight_hh"].T
    return z + weights["bias_ih"] + weights["bias_hh"] if "bias_ih" in weights else z


def _weights(problem: Problem, end: str) -> Arrays:
    return {
        name: np.asarray(problem.params[name + end], np.float64)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        if name + end in problem.params
    }
