"""The truth and how well it can be known: float64 values, the condition of each slice, the reference's own error.

κ is measured, not derived. Every weight, input and cotangent is moved by one float32 rounding up or down at random; κu
is the largest relative response of three such draws in float64. e_ref is the largest error of the reference's own
float32 paths. Both are computed once per problem, for every slice of every quantity in both norms, and all
implementations share them. A time step takes the largest κ and e_ref among its neighbours. A slice of few numbers takes
the largest of all slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from crosscheck.core.conditioning import CHAOS, TINY32, U32, Conditioning, Reference, ReferenceRun
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.loss_scaling import loss_scaled
from crosscheck.core.norms import row_norms
from crosscheck.core.problem import Problem, Quantity, is_gradient
from crosscheck.core.slices import OUTLIERS, WHOLE, Scope, Slicing

DRAWS = 3
NEIGHBOURS = 8  # time steps on either side
FEW = 32  # numbers of a slice


def measure_reference(
    problem: Problem,
    truth: ReferenceRun,
    float32_paths: Sequence[ReferenceRun],
    seed: int = 0,
    size: float = U32,
) -> Reference:
    """Run the reference in float64 on the problem and on its perturbations, and each of its float32 paths.

    Args:
      problem: the problem.
      truth: runs the reference in float64.
      float32_paths: functions that run the reference in float32, each in its own way.
      seed: the seed of the perturbations.
      size: the size of the perturbations. κ is a derivative only if they are small enough.

    Raises:
      CouldNotRun: the reference does not compute in float64.
    """
    values = truth(problem)
    for name, value in values.items():
        if value.dtype.kind == "f" and value.dtype != np.float64:
            raise CouldNotRun(f"the reference gives {name} as {value.dtype} when run in float64: there is no truth.")
    rng = np.random.default_rng([seed, 0x6B])
    responses: dict[Quantity, dict[Scope, np.ndarray]] = {name: {} for name in values}
    moving: dict[Quantity, np.ndarray] = {}
    steady: dict[Quantity, np.ndarray] = {}
    dwarfing = {name: _dwarfing(name, value) for name, value in values.items()}
    for _ in range(DRAWS):
        moved = truth(problem.perturbed(rng, size))
        for name, value in values.items():
            change = difference(moved[name], value)
            moving[name] = moving.get(name, False) | (change != 0)
            steady[name] = steady.get(name, True) & (np.abs(change) <= CHAOS * np.abs(value))
            for scope, rows in slice_up(change, problem.slicings.get(name), dwarfing[name]).items():
                responses[name][scope] = np.maximum(responses[name].get(scope, 0.0), row_norms(rows) / size)
    outliers = {name: _outliers(value, moving[name], dwarfing[name]) for name, value in values.items()}
    reference = Reference(
        values,
        {
            name: _conditioning(values[name], problem.slicings.get(name), outliers[name], responses[name])
            for name in values
        },
        {name: mask for name, mask in outliers.items() if mask is not None},
        steady,
        truth,
    )
    reference = _with_own_error(problem, reference, float32_paths)
    scaled = loss_scaled(reference)
    if scaled is None:
        return reference
    scaled = _with_own_error(problem.scaled(2.0**scaled.power), scaled, float32_paths)
    return replace(reference, power=scaled.power, loss_scaled=scaled)


def slice_up(a: np.ndarray, slicing: Slicing | None, outliers: np.ndarray | None = None) -> dict[Scope, np.ndarray]:
    """Return rows ``[m, n]`` per scope. ``outliers`` is the mask of what gets a scope of its own."""
    others = a if outliers is None else np.where(outliers, 0.0, a)
    scopes = {WHOLE: others.reshape(1, -1)}
    if outliers is not None:
        scopes[OUTLIERS] = np.where(outliers, a, 0.0).reshape(1, -1)
    if slicing is not None:
        scopes[slicing.scope] = slicing.rows(others)
    return scopes


def difference(a: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return a − truth in float64, and 0 where the truth is NaN or inf: those are compared by position."""
    finite = np.isfinite(truth)
    return np.where(finite, np.asarray(a, np.float64) - np.where(finite, truth, 0.0), 0.0)


def _dwarfing(name: Quantity, truth: np.ndarray) -> np.ndarray | None:
    """Return a mask of the numbers that are far larger than the rest of an output; None if there are none.

    It is not applied to gradients: a vanishing gradient spans many orders of magnitude.
    """
    size = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    if is_gradient(name) or truth.dtype.kind != "f" or not size.any():
        return None
    mask: np.ndarray = size > 2.0**26 * np.median(size[size > 0])
    return mask if mask.any() else None


def _outliers(truth: np.ndarray, moving: np.ndarray, dwarfing: np.ndarray | None) -> np.ndarray | None:
    """Return a mask of far larger numbers, and of numbers that no perturbation moves, unless they are tiny."""
    size = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    rest = moving if dwarfing is None else moving & ~dwarfing
    fixed = ~moving & (size > 2.0**-26 * np.max(size[rest], initial=0.0)) & (size > 2.0**-900)
    if not rest.any() or not fixed.any():
        return dwarfing
    mask: np.ndarray = fixed if dwarfing is None else fixed | dwarfing
    return mask


def _conditioning(
    truth: np.ndarray,
    slicing: Slicing | None,
    outliers: np.ndarray | None,
    responses: Mapping[Scope, np.ndarray],
) -> dict[Scope, Conditioning]:
    result = {}
    for scope, rows in slice_up(np.where(np.isfinite(truth), truth, 0.0), slicing, outliers).items():
        size = row_norms(rows)
        response = responses.get(scope, np.zeros_like(size))
        condition = np.divide(response, size, out=np.zeros_like(size), where=size > 0)
        numbers = rows.shape[1]
        condition = over_neighbours(condition, scope, numbers)
        result[scope] = Conditioning(size, condition, response, np.zeros_like(size), numbers)
    return result


def in_precision(problem: Problem, reference: Reference, path: ReferenceRun, tiny: float) -> Reference:
    """Return a reference for a check in another dtype than float32.

    Args:
      problem: the problem.
      reference: its reference.
      path: runs the reference in this dtype.
      tiny: the smallest normal number of the dtype.
    """
    conditioning = {
        name: {scope: replace(known, own_error=np.zeros_like(known.size)) for scope, known in scopes.items()}
        for name, scopes in reference.conditioning.items()
    }
    return _with_own_error(problem, replace(reference, conditioning=conditioning, loss_scaled=None), [path], tiny)


def _with_own_error(
    problem: Problem, reference: Reference, narrower_paths: Sequence[ReferenceRun], tiny: float = TINY32
) -> Reference:
    """Add e_ref: the error of the reference's own paths in a narrower dtype, beyond what underflow may do."""
    errors = {n: {scope: k.own_error for scope, k in scopes.items()} for n, scopes in reference.conditioning.items()}
    dtypes: dict[Quantity, str] = {}
    for path in narrower_paths:
        narrow = path(problem)
        dtypes = {name: str(value.dtype) for name, value in narrow.items()}
        for name, value in reference.truth.items():
            off = difference(narrow[name], value)
            for scope, rows in slice_up(off, problem.slicings.get(name), reference.outliers.get(name)).items():
                floor = 8 * tiny * np.array([[np.sqrt(rows.shape[1])], [1.0]])
                beyond, size = np.maximum(row_norms(rows) - floor, 0.0), reference.conditioning[name][scope].size
                error = np.divide(beyond, size, out=np.zeros_like(size), where=size > 0)
                errors[name][scope] = np.maximum(errors[name][scope], error)
    conditioning = {
        name: {
            scope: replace(known, own_error=over_neighbours(errors[name][scope], scope, known.numbers))
            for scope, known in scopes.items()
        }
        for name, scopes in reference.conditioning.items()
    }
    return replace(reference, conditioning=conditioning, dtypes=dtypes)


def over_neighbours(values: np.ndarray, scope: Scope, numbers: int) -> np.ndarray:
    """Widen a sample of few numbers: a step takes the maximum of its neighbours, a small slice that of all slices."""
    if scope.in_order:
        widened: np.ndarray = maximum_filter1d(values, 2 * NEIGHBOURS + 1, axis=1, mode="nearest")
        return widened
    return np.broadcast_to(values.max(axis=1, keepdims=True), values.shape) if numbers < FEW else values
