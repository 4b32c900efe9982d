"""The truth and how well it can be known: float64 values, the condition of each part, the reference's own error.

κ is measured, not derived: every weight, input and cotangent is moved by one float32 rounding up or down at random, and
κu is the largest relative response of three such draws in float64. e_ref is the largest error of the reference's own
float32 paths. Both are computed once a problem, for every part of every quantity in both norms, and shared by all
sides. A time step takes the largest κ and e_ref among its neighbours, and a block of few numbers among its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.norms import row_norms
from crosscheck.core.problem import Arrays, Problem, is_gradient
from crosscheck.core.slices import APART, STEPS, WHOLE, Cut

U32 = 2.0**-24
U64 = 2.0**-53
TINY32 = float(np.finfo(np.float32).tiny)
DRAWS = 3
CHAOS = 1e-3  # of κu and e_ref in float32
NEIGHBOURS = 8  # time steps on either side
FEW = 32  # numbers of a block
SHIFT = 60  # cotangents times 2^60 lift gradients over the smallest float32


@dataclass(frozen=True)
class Known:
    """Of the rows of one part of a quantity, [2 norms, rows]: what the limits are made of.

    size: the truth's norm. condition: relative response per relative perturbation. response: the same, absolute, which
    is all there is where the truth is zero. own_error: e_ref, relative, in float32. numbers: how many a row has.
    """

    size: np.ndarray
    condition: np.ndarray
    response: np.ndarray
    own_error: np.ndarray
    numbers: int = 1


@dataclass(frozen=True)
class Reference:
    """truth by name; known by name and part; ``shifted`` is the same for cotangents times 2^``power``, where needed."""

    truth: Arrays
    known: dict[str, dict[str, Known]]
    apart: dict[str, np.ndarray]  # masks of what is judged apart, of those quantities that have such numbers
    run: Callable[[Problem], Arrays] | None = None  # the truth's, for probes
    power: int = 0
    shifted: Reference | None = None


def is_chaotic(reference: Reference) -> bool:
    """Does it amplify rounding past deciding in some part?"""
    return any(np.any(~(k.condition * U32 <= CHAOS)) for parts in reference.known.values() for k in parts.values())


def measure(
    problem: Problem,
    truth: Callable[[Problem], Arrays],
    float32_paths: Sequence[Callable[[Problem], Arrays]],
    seed: int = 0,
    size: float = U32,
) -> Reference:
    """Runs ``truth`` in float64 on the problem and on its perturbations, and each of the reference's float32 paths.

    ``size``: of the perturbations. κ is a derivative where they are small enough, in a float64 lane alone below U32.
    """
    values = truth(problem)
    for name, value in values.items():
        if value.dtype.kind == "f" and value.dtype != np.float64:
            raise CouldNotRun(f"the reference gives {name} as {value.dtype} when run in float64: there is no truth.")
    rng = np.random.default_rng([seed, 0x6B])
    responses: dict[str, dict[str, np.ndarray]] = {name: {} for name in values}
    moving: dict[str, np.ndarray] = {}
    dwarfing = {name: _dwarfing(name, value) for name, value in values.items()}
    for _ in range(DRAWS):
        moved = truth(problem.perturbed(rng, size))
        for name, value in values.items():
            off = difference(moved[name], value)
            moving[name] = moving.get(name, False) | (off != 0)
            for part, rows in cut_up(off, problem.cuts.get(name), dwarfing[name]).items():
                responses[name][part] = np.maximum(responses[name].get(part, 0.0), row_norms(rows) / size)
    apart = {name: _apart(value, moving[name], dwarfing[name]) for name, value in values.items()}
    reference = Reference(
        values,
        {name: _known(values[name], problem.cuts.get(name), apart[name], responses[name]) for name in values},
        {name: mask for name, mask in apart.items() if mask is not None},
        truth,
    )
    return _with_shift(problem, _with_own_error(problem, reference, float32_paths), float32_paths)


def cut_up(a: np.ndarray, cut: Cut | None, apart: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Part -> rows [m, n]. ``apart`` masks what goes into a part of its own."""
    moving = a if apart is None else np.where(apart, 0.0, a)
    parts = {WHOLE: moving.reshape(1, -1)}
    if apart is not None:
        parts[APART] = np.where(apart, a, 0.0).reshape(1, -1)
    if cut is not None:
        parts[cut.kind] = cut.rows(moving)
    return parts


def difference(a: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """a − truth in float64; 0 where the truth is NaN or inf, which is compared by position."""
    finite = np.isfinite(truth)
    return np.where(finite, np.asarray(a, np.float64) - np.where(finite, truth, 0.0), 0.0)


def finite(truth: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(truth), truth, 0.0)


def _dwarfing(name, truth):
    """The mask of what outweighs the rest of an output; a gradient that fades dwarfs its own far end, and has none."""
    size = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    if is_gradient(name) or truth.dtype.kind != "f" or not size.any():
        return None
    mask = size > 2.0**26 * np.median(size[size > 0])
    return mask if mask.any() else None


def _apart(truth, moving, dwarfing):
    """The mask of what dwarfs the rest, and of what never moves and is not small beside what does; None if empty."""
    size = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    rest = moving if dwarfing is None else moving & ~dwarfing
    fixed = ~moving & (size > 2.0**-26 * np.max(size[rest], initial=0.0)) & (size > 2.0**-900)
    if not rest.any() or not fixed.any():
        return dwarfing
    return fixed if dwarfing is None else fixed | dwarfing


def _known(truth, cut, apart, responses) -> dict[str, Known]:
    known = {}
    for part, rows in cut_up(finite(truth), cut, apart).items():
        size = row_norms(rows)
        response = responses.get(part, np.zeros_like(size))
        condition = np.divide(response, size, out=np.zeros_like(size), where=size > 0)
        numbers = rows.shape[1]
        known[part] = Known(size, over_neighbours(condition, part, numbers), response, np.zeros_like(size), numbers)
    return known


def _with_own_error(problem, reference, float32_paths) -> Reference:
    """e_ref: what the float32 paths err by, beyond what underflow alone may do."""
    errors = {name: {part: k.own_error for part, k in parts.items()} for name, parts in reference.known.items()}
    for path in float32_paths:
        narrow = path(problem)
        for name, value in reference.truth.items():
            off = difference(narrow[name], value)
            for part, rows in cut_up(off, problem.cuts.get(name), reference.apart.get(name)).items():
                floor = 8 * TINY32 * np.array([[np.sqrt(rows.shape[1])], [1.0]])
                beyond, size = np.maximum(row_norms(rows) - floor, 0.0), reference.known[name][part].size
                error = np.divide(beyond, size, out=np.zeros_like(size), where=size > 0)
                errors[name][part] = np.maximum(errors[name][part], error)
    known = {
        name: {
            part: replace(k, own_error=over_neighbours(errors[name][part], part, k.numbers))
            for part, k in parts.items()
        }
        for name, parts in reference.known.items()
    }
    return replace(reference, known=known)


def over_neighbours(values: np.ndarray, part: str, numbers: int) -> np.ndarray:
    """A few numbers are no sample: a step takes its neighbours' too, and a small block all of its kind."""
    if part in STEPS:
        return maximum_filter1d(values, 2 * NEIGHBOURS + 1, axis=1, mode="nearest")
    return np.broadcast_to(values.max(axis=1, keepdims=True), values.shape) if numbers < FEW else values


def _with_shift(problem, reference, float32_paths) -> Reference:
    """Where gradients fade in float32 and not in float64: the reference for cotangents times a power of two."""
    sizes = [(known.size[1], name) for name, parts in reference.known.items() for known in parts.values()]
    fading = any(is_gradient(n) and np.any((size > 0) & (size < TINY32 * 2**10)) for size, n in sizes)
    largest = max((float(size.max(initial=0.0)) for size, n in sizes if is_gradient(n)), default=0.0)
    if not fading or not 0.0 < largest < 2.0**60:
        return reference
    power = min(SHIFT, int(100 - np.ceil(np.log2(largest))))
    factor = 2.0**power

    def lifted(name, known):
        up = factor if is_gradient(name) else 1.0
        return replace(known, size=known.size * up, response=known.response * up)

    shifted = Reference(
        {name: value * factor if is_gradient(name) else value for name, value in reference.truth.items()},
        {
            name: {part: lifted(name, replace(k, own_error=np.zeros_like(k.size))) for part, k in parts.items()}
            for name, parts in reference.known.items()
        },
        reference.apart,
        power=power,
    )
    return replace(reference, power=power, shifted=_with_own_error(problem.scaled(factor), shifted, float32_paths))
