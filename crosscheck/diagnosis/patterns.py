"""Mistakes of any port that show in the numbers of its results: swapped outputs, a factor, a transpose, no gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from crosscheck.core.finding import Finding, Outcome
from crosscheck.core.problem import Gradient, Problem, Quantity, Results, is_differentiable

SAME = 1e-6  # relative: two results that are the same except for rounding, also in float32
EXPLAINED = 1e-2  # share of the difference that may be left if a factor is the cause
NEAR = 1e-3  # a factor this near to 1 is written as 1 + its distance
MOST_FACTOR = 2.0**20
_LOOK_AT = "look at a mean in place of a sum, or a scale"


def pattern(problem: Problem, truth: Results, result: Results, findings: Sequence[Finding]) -> str:
    """Return the first pattern that the results of a port in float64 show; "" if they show none.

    Args:
      problem: the problem.
      truth: results of the reference in float64.
      result: results of the port in float64.
      findings: what disagrees.
    """
    wrong = [f.quantity for f in findings if f.final is Outcome.DISAGREE and f.check.dtype == "float64"]
    wrong = [name for name in dict.fromkeys(wrong) if name in truth and name in result]
    comparable = [name for name in wrong if np.shape(truth[name]) == np.shape(result[name])]
    return next(_patterns(problem, truth, result, wrong, comparable), "")


def _patterns(
    problem: Problem, truth: Results, result: Results, wrong: Sequence[Quantity], comparable: Sequence[Quantity]
) -> Iterator[str]:
    yield from _swapped(problem, truth, result, comparable)
    yield from _no_gradient(problem, truth, result)
    for name in comparable[:1]:
        yield from _transposed(name, truth[name], result[name])
        yield from _scaled(name, truth[name], result[name])
        yield from _only_at_zero(name, problem, truth[name], result[name])
    if len(comparable) == len(wrong):
        yield from _all_scaled([truth[name] for name in wrong], [result[name] for name in wrong])


def _swapped(problem: Problem, truth: Results, result: Results, wrong: Sequence[Quantity]) -> Iterator[str]:
    outputs = [name for name in problem.output_names if name in wrong]
    for n, first in enumerate(outputs):
        for second in outputs[n + 1 :]:
            swapped = _same(result[first], truth[second]) and _same(result[second], truth[first])
            if swapped and not _same(truth[first], truth[second]):
                yield f"{first!r} and {second!r} are swapped in the port"


def _no_gradient(problem: Problem, truth: Results, result: Results) -> Iterator[str]:
    names = [Gradient(name) for name in problem.wrt if name in problem.params]
    alive = [name for name in names if name in truth and np.any(truth[name])]
    if len(alive) > 1 and not any(np.any(result.get(name, 0)) for name in alive):
        yield (
            "no gradient reaches any parameter in the port: it does not use the params that it is given, or it stops "
            "their gradient, such as by a conversion to NumPy"
        )


def _transposed(name: Quantity, truth: np.ndarray, result: np.ndarray) -> Iterator[str]:
    square = truth.ndim >= 2 and truth.shape[-1] == truth.shape[-2]
    if square and _same(np.swapaxes(result, -1, -2), truth) and not _same(result, truth):
        yield f"{name} is transposed in the port"


def _scaled(name: Quantity, truth: np.ndarray, result: np.ndarray) -> Iterator[str]:
    factor = _factor(truth, result) if truth.size > 1 else 1.0
    if factor != 1:
        yield f"{name} in the port is {_factor_text(factor)} times that of torch: {_look_at(factor)}"


def _all_scaled(truths: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> Iterator[str]:
    """Yield a line if several quantities, such as a loss and its gradients, have one and the same factor."""
    factors = [_factor(truth, result) for truth, result in zip(truths, results, strict=True)]
    if len(factors) > 1 and 1 not in factors and np.ptp(factors) <= SAME * abs(factors[0]):
        text = f"{_factor_text(factors[0])} times that of torch in the port: {_look_at(factors[0])}"
        yield f"all that differs is {text}"


def _factor(truth: np.ndarray, result: np.ndarray) -> float:
    """Return the factor of a result that is the truth times a number; 1 if it is not, or if the factor is extreme."""
    if not (_is_usable(truth) and _is_usable(result)):
        return 1.0
    factor = float(np.vdot(truth, result) / np.vdot(truth, truth))
    moderate = 1 / MOST_FACTOR < abs(factor) < MOST_FACTOR
    left = np.max(np.abs(result - factor * truth)) / np.max(np.abs(result))
    explains = left <= min(SAME, EXPLAINED * abs(factor - 1))
    return factor if moderate and explains else 1.0


def _factor_text(factor: float) -> str:
    return f"(1 {'+' if factor > 1 else '-'} {abs(factor - 1):.1e})" if abs(factor - 1) < NEAR else f"{factor:.6g}"


def _look_at(factor: float) -> str:
    return "look at a sign" if abs(factor + 1) < SAME else _LOOK_AT


def _only_at_zero(name: Quantity, problem: Problem, truth: np.ndarray, result: np.ndarray) -> Iterator[str]:
    if not (_is_usable(truth) and np.isfinite(result).all()):
        return
    off = ~np.isclose(result, truth, rtol=SAME, atol=SAME * np.max(np.abs(truth), initial=0.0))
    of = name.of if isinstance(name, Gradient) else None
    for key, a in problem.input_leaves.items():
        fits = is_differentiable(a) and np.shape(a) == off.shape and of in (None, key)
        if fits and off.any() and np.all(np.asarray(a)[off] == 0):
            yield f"{name} differs only where {key!r} is exactly 0: there the two choose another derivative or branch"


def _is_usable(a: np.ndarray) -> bool:
    return a.dtype.kind == "f" and bool(np.isfinite(a).all()) and bool(np.any(a))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if np.shape(a) != np.shape(b) or a.dtype.kind != b.dtype.kind:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    size = float(np.max(np.abs(b), initial=0.0))
    return size > 0 and bool(np.max(np.abs(a - b), initial=0.0) <= SAME * size)
