"""All explanations of one step of an LSTM cell at once: every layout, gate order, bias rule and state order.

An explanation costs little. Once the sums are known, a cell computes each unit by itself, so that a few units show
which explanations are wrong. The best ones are then computed in full, from the weights that they give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeAlias

import numpy as np

from crosscheck.discovery.conventions import TORCH_ORDER, BiasRule, Convention
from crosscheck.discovery.layouts import Layout, Stored
from crosscheck.discovery.weight_map import MARGIN, Candidate, StateOrder, read

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
Variants: TypeAlias = Sequence[tuple[Layout, bool]]  # layouts, and whether recurrent blocks are transposed

UNITS = 4
CHUNK = 1024  # layouts at a time
KEPT = 64  # candidates that are computed in full, at most
SAME = 1e-9  # a smaller difference of two steps is rounding, which is 1e-16; a mistake is 1e-2
ORDERS: tuple[StateOrder, ...] = ("hc", "ch")
GATES = tuple("".join(gates) for gates in permutations(TORCH_ORDER))
# The rules that can be distinguished with no, one and two stored biases. A single bias is bias_ih.
RULES = (
    (BiasRule.AS_STORED, BiasRule.FORGET_PLUS_ONE, BiasRule.FORGET_MINUS_ONE),
    tuple(rule for rule in BiasRule if rule is not BiasRule.WITHOUT_HH),
    tuple(BiasRule),
)


@dataclass(frozen=True)
class Step:
    """One observed step.

    Attributes:
      leaves: the parameters.
      x: ``[B, D]``.
      given: the states before the step, ``[B, H]`` each.
      returned: the states after it.
    """

    leaves: list[np.ndarray]
    x: np.ndarray
    given: Pair
    returned: Pair


@dataclass(frozen=True)
class Scored:
    """A candidate with the step that it predicts, and the error of the prediction."""

    candidate: Candidate
    error: float
    prediction: Pair


def equivalent(one: Scored, other: Scored) -> bool:
    """Return whether two candidates compute the same step."""
    same_sizes = one.prediction[0].shape == other.prediction[0].shape
    return same_sizes and distance(one.prediction, other.prediction) < SAME


def count(layouts: Sequence[Layout]) -> int:
    """Return how many candidates `rank` tries."""
    return sum(len(_variants(layout)) * len(RULES[len(layout.biases)]) for layout in layouts) * 4 * len(GATES)


def rank(step: Step, layouts: Sequence[Layout]) -> list[Scored]:
    """Return the best candidates, computed in full, in the order of ``layouts``, and the best of the wrong ones.

    ``layouts`` have the same sizes, and therefore the same number of biases. Simple ones are first.
    """
    variants = [(layout, transposed) for layout in layouts for transposed in _variants(layout)]
    rules = RULES[len(layouts[0].biases)]
    errors = _screen(step, variants, rules)
    flat = errors.ravel()
    limit = MARGIN * max(flat.min(), np.finfo(float).eps)
    near, rest = np.flatnonzero(flat <= limit), np.where(flat <= limit, np.inf, flat)
    if len(near) > KEPT:
        near = np.sort(near[np.argpartition(flat[near], KEPT)[:KEPT]])
    scored = []
    for place in [*near, *([rest.argmin()] if rest.min() < np.inf else [])]:
        v, r, t, g, b = np.unravel_index(place, errors.shape)
        layout, transposed = variants[v]
        candidate = Candidate(layout, Convention(GATES[g], transposed, rules[r]), ORDERS[t], ORDERS[b])
        prediction = predict(candidate, step)
        scored.append(Scored(candidate, distance(prediction, step.returned), prediction))
    return scored


def predict(candidate: Candidate, step: Step) -> Pair:
    """Return the step of torch's cell on the weights that a candidate gives, in the order in which the cell returns."""
    cell = read(candidate, step.leaves)
    h, c = step.given if candidate.takes == "hc" else step.given[::-1]
    z = step.x @ cell["weight_ih"].T + h @ cell["weight_hh"].T
    if "bias_ih" in cell:
        z = z + cell["bias_ih"] + cell["bias_hh"]
    i, f, g, o = np.split(z, 4, axis=-1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    h = _sigmoid(o) * np.tanh(c)
    return (h, c) if candidate.returns == "hc" else (c, h)


def distance(got: Pair, expected: Pair) -> float:
    """Return the larger relative 2-norm error of the two. It is absolute if zeros are expected."""
    pairs = zip(got, expected, strict=True)
    return max(float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0)) for a, b in pairs)


def _variants(layout: Layout) -> tuple[bool, ...]:
    return (False,) if layout.recurrent.form.final else (False, True)


def _screen(step: Step, variants: Variants, rules: Sequence[BiasRule]) -> np.ndarray:
    """Return errors ``[variant, bias rule, order taken, gate order, order returned]`` on the first few units."""
    returned = [a[:, :UNITS].ravel() for a in step.returned]
    errors = np.empty((len(variants), len(rules), 2, len(GATES), 2))
    units = np.array([rule.forget for rule in rules])[:, None]
    for taken, (h, c) in enumerate((step.given, step.given[::-1])):
        for rows, sums in _sums(step, variants, rules, h):
            opened, bent, kept = _sigmoid(sums), np.tanh(sums), _sigmoid(sums + units) * c[:, :UNITS].ravel()
            for n, gates in enumerate(GATES):
                i, f, g, o = (gates.index(gate) for gate in TORCH_ORDER)
                new_c = kept[f] + opened[i] * bent[g]
                new_h = opened[o] * np.tanh(new_c)
                errors[rows, :, taken, n, 0] = _distances((new_h, new_c), returned)
                errors[rows, :, taken, n, 1] = _distances((new_c, new_h), returned)
    return errors


def _distances(got: Pair, expected: Sequence[np.ndarray]) -> np.ndarray:
    """Return `distance` per index of the leading axes."""
    off = [(a - b, np.linalg.norm(b) or 1.0) for a, b in zip(got, expected, strict=True)]
    errors: np.ndarray = np.maximum(*(np.sqrt(np.einsum("...n,...n", d, d)) / norm for d, norm in off))
    return errors


def _sums(
    step: Step, variants: Variants, rules: Sequence[BiasRule], h: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the sums inside the gates for chunks of variants: ``[stored block, variant, rule, B * unit]``."""
    from_x, at_x = _unique([(layout.input, False) for layout, _ in variants], step.leaves, step.x)
    from_h, at_h = _unique([(layout.recurrent, transposed) for layout, transposed in variants], step.leaves, h)
    factors = np.array([(rule.ih, rule.hh) for rule in rules], float)
    added = []
    for n in range(len(variants[0][0].biases)):
        blocks, at = _unique([(layout.biases[n], False) for layout, _ in variants], step.leaves, np.ones((len(h), 1)))
        added.append((blocks, at, factors[:, n, None]))
    for start in range(0, len(variants), CHUNK):
        rows = slice(start, start + CHUNK)
        sums = (from_x[:, at_x[rows]] + from_h[:, at_h[rows]])[:, :, None] + np.zeros((len(rules), 1))
        for blocks, at, factor in added:
            sums += blocks[:, at[rows], None] * factor
        yield rows, sums


def _unique(
    stored: Sequence[tuple[Stored, bool]], leaves: Sequence[np.ndarray], operand: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each different array contributes, ``[4, n, B * unit]``, and the index n of each of ``stored``.

    A matrix contributes its product with ``operand`` ``[B, in]``; a bias contributes itself in every row.
    """
    keys = {key: n for n, key in enumerate(dict.fromkeys(stored))}
    parts = []
    for group, transposed in keys:
        blocks = group.take(leaves)
        blocks = blocks[..., None] if blocks.ndim == 2 else blocks.swapaxes(1, 2) if transposed else blocks
        parts.append(np.einsum("bk,guk->gbu", operand, blocks[:, :UNITS]).reshape(4, -1))
    return np.stack(parts, axis=1), np.array([keys[key] for key in stored])


def _sigmoid(z: np.ndarray) -> np.ndarray:
    sigmoid: np.ndarray = 0.5 * (1 + np.tanh(0.5 * z))
    return sigmoid
