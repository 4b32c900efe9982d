"""All explanations of one step of an LSTM cell at once: every layout, gate order, bias rule and state order.

An explanation costs a few numbers: the cell works unit by unit once its sums are made, so a few units tell right from
wrong. The best ones are then computed in full, from the weights that they would hand out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from crosscheck.discovery.conventions import TORCH_ORDER, BiasRule, Convention
from crosscheck.discovery.layouts import Layout, Stored
from crosscheck.discovery.weight_map import OUTLIERS, Candidate, read

Pair = tuple[np.ndarray, np.ndarray]

UNITS = 4
CHUNK = 1024  # layouts at a time
KEPT = 64  # at most, computed in full
SAME = 1e-9  # candidates whose steps differ by less compute the same function: rounding is 1e-16, a mistake 1e-2
ORDERS = ("hc", "ch")
GATES = tuple("".join(gates) for gates in permutations(TORCH_ORDER))
# What can be told apart with no, one and two stored biases; one alone stands as bias_ih.
RULES = (
    (BiasRule.AS_STORED, BiasRule.FORGET_PLUS_ONE, BiasRule.FORGET_MINUS_ONE),
    tuple(rule for rule in BiasRule if rule is not BiasRule.WITHOUT_HH),
    tuple(BiasRule),
)


@dataclass(frozen=True)
class Step:
    """One observed step: the leaves, x [B, D], the pair of states [B, H] handed in and the pair that came out."""

    leaves: list[np.ndarray]
    x: np.ndarray
    given: Pair
    came: Pair


@dataclass(frozen=True)
class Scored:
    candidate: Candidate
    error: float
    prediction: Pair


def equivalent(one: Scored, other: Scored) -> bool:
    """Whether the two compute the same step."""
    same_sizes = one.prediction[0].shape == other.prediction[0].shape
    return same_sizes and distance(one.prediction, other.prediction) < SAME


def count(layouts: Sequence[Layout]) -> int:
    """How many candidates :func:`rank` tries."""
    return sum(len(_variants(layout)) * len(RULES[len(layout.biases)]) for layout in layouts) * 4 * len(GATES)


def rank(step: Step, layouts: Sequence[Layout]) -> list[Scored]:
    """The best candidates in full, in the order of ``layouts``, and the first one that is far off.

    ``layouts`` have the same sizes, and with them the same number of biases; plain ones come first.
    """
    variants = [(layout, transposed) for layout in layouts for transposed in _variants(layout)]
    rules = RULES[len(layouts[0].biases)]
    errors = _screen(step, variants, rules)
    flat = errors.ravel()
    limit = OUTLIERS * max(flat.min(), np.finfo(float).eps)
    near, rest = np.flatnonzero(flat <= limit), np.where(flat <= limit, np.inf, flat)
    if len(near) > KEPT:
        near = np.sort(near[np.argpartition(flat[near], KEPT)[:KEPT]])
    scored = []
    for place in [*near, *([rest.argmin()] if rest.min() < np.inf else [])]:
        v, r, t, g, b = np.unravel_index(place, errors.shape)
        layout, transposed = variants[v]
        found = Candidate(layout, Convention(GATES[g], transposed, rules[r]), ORDERS[t], ORDERS[b])
        prediction = predict(found, step)
        scored.append(Scored(found, distance(prediction, step.came), prediction))
    return scored


def predict(candidate: Candidate, step: Step) -> Pair:
    """The step of torch's cell on the weights that this candidate hands out, in the order in which the cell returns."""
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
    """The larger relative 2-norm error of the two; absolute where zeros are expected."""
    pairs = zip(got, expected, strict=True)
    return max(float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0)) for a, b in pairs)


def _variants(layout: Layout) -> tuple[bool, ...]:
    return (False,) if layout.recurrent.form.final else (False, True)


def _screen(step: Step, variants, rules) -> np.ndarray:
    """Errors [variant, bias rule, order taken, gate order, order returned], on the first few units."""
    came = [a[:, :UNITS].ravel() for a in step.came]
    errors = np.empty((len(variants), len(rules), 2, len(GATES), 2))
    units = np.array([rule.forget for rule in rules])[:, None]
    for taken, (h, c) in enumerate((step.given, step.given[::-1])):
        for rows, sums in _sums(step, variants, rules, h):
            opened, bent, kept = _sigmoid(sums), np.tanh(sums), _sigmoid(sums + units) * c[:, :UNITS].ravel()
            for n, gates in enumerate(GATES):
                i, f, g, o = (gates.index(gate) for gate in TORCH_ORDER)
                new_c = kept[f] + opened[i] * bent[g]
                new_h = opened[o] * np.tanh(new_c)
                errors[rows, :, taken, n, 0] = _distances((new_h, new_c), came)
                errors[rows, :, taken, n, 1] = _distances((new_c, new_h), came)
    return errors


def _distances(got: Pair, expected: Sequence[np.ndarray]) -> np.ndarray:
    """:func:`distance` over leading axes."""
    off = [(a - b, np.linalg.norm(b) or 1.0) for a, b in zip(got, expected, strict=True)]
    return np.maximum(*(np.sqrt(np.einsum("...n,...n", d, d)) / norm for d, norm in off))


def _sums(step: Step, variants, rules, h) -> Iterator[tuple[slice, np.ndarray]]:
    """The sums inside the gates, a chunk of variants at a time: [stored block, variant, rule, B * unit]."""
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


def _unique(stored: Sequence[tuple[Stored, bool]], leaves, operand) -> tuple[np.ndarray, np.ndarray]:
    """What each different array contributes, [4, n, B * unit], and where each of ``stored`` is among them.

    A matrix contributes its product with ``operand`` [B, in], a bias itself in every row.
    """
    keys = {key: n for n, key in enumerate(dict.fromkeys(stored))}
    parts = []
    for group, transposed in keys:
        blocks = group.take(leaves)
        blocks = blocks[..., None] if blocks.ndim == 2 else blocks.swapaxes(1, 2) if transposed else blocks
        parts.append(np.einsum("bk,guk->gbu", operand, blocks[:, :UNITS]).reshape(4, -1))
    return np.stack(parts, axis=1), np.array([keys[key] for key in stored])


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))
