"""What the inputs of an agreeing pair cannot show: lines under the verdict, each with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from crosscheck.core.finding import Precision
from crosscheck.core.problem import Problem, canonical, is_differentiable, is_static
from crosscheck.suite.torch_side import TorchSide
from crosscheck.suite.trial import Trial
from crosscheck.suite.unseen_arrays import is_constant, lines_about_arrays, names_text

SAME = 1e-12  # relative: the same kernels on the same numbers give the same bits
SECOND_DERIVATIVES = "second derivatives: second_order=True compares a Hessian-vector product"


def not_shown(
    problem: Problem, trial: Trial, side: TorchSide, seed: int, dtypes: Sequence[Precision]
) -> tuple[str, ...]:
    """Return what these inputs cannot show, in words.

    The torch module runs again, forward only, with other values of what is not differentiated.

    Args:
      problem: the problem.
      trial: what one run of the torch module showed.
      side: the torch module.
      seed: the seed of the other values.
      dtypes: the precision checks that ran.
    """
    outcomes = Moves(problem, side)
    lines = [
        *_checks_that_did_not_run(dtypes),
        *_left_out(problem),
        *lines_about_arrays(problem, side),
        *_without_influence(problem, side, outcomes, seed),
        *_default_buffers(problem, side, outcomes, seed),
    ]
    if trial.lost_buffers:
        lines.append(
            f"the forward pass changes the buffers {names_text(trial.lost_buffers)}, and they are not compared: return "
            "them from both sides, such as with torch_fn=lambda m, x: (m(x), m.running_mean)"
        )
    lines += [f"in the torch module {text}" for text in trial.one_sided]
    if problem.wrt and not problem.tangents:
        lines.append(SECOND_DERIVATIVES)
    return tuple(lines)


def _without_influence(problem: Problem, side: TorchSide, outcomes: Moves, seed: int) -> Iterator[str]:
    """Yield a line for each array without a gradient in torch whose other values change no output."""
    rng = np.random.default_rng([seed, 0x1F])
    for name, a in {**problem.params, **problem.input_leaves}.items():
        if is_static(a) or (name in problem.wrt and name not in side.unused) or np.size(a) == 0:
            continue
        if name not in problem.params and is_constant(a):  # `_constants` has a line about it
            continue
        if outcomes.never(_with_array(problem, name, other) for other in _others(np.asarray(a), rng)):
            yield f"no output changes with {name!r}: a port that ignores it passes"


def _with_array(problem: Problem, name: str, other: np.ndarray) -> Problem:
    if name in problem.params:
        return replace(problem, params={**problem.params, name: other})
    return replace(problem, inputs=problem.with_leaves([*(problem.input_leaves | {name: other}).values()]))


def _others(a: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield other values of an array: floating-point ones are drawn.

    Integers and bools change places first, and then some of them take the places of others. A module may take only
    values that occur. A single integer moves by one, and then further.
    """
    if is_differentiable(a):
        yield a + rng.normal(size=a.shape)
    elif a.size == 1:
        yield from (other for other in _neighbours(a) if not np.array_equal(other, a))
    elif not is_constant(a):
        for replacing in (False, True, True, True):
            yield _redrawn(a, rng, replacing)


def _neighbours(a: np.ndarray) -> Iterator[np.ndarray]:
    if a.dtype.kind == "b":
        yield ~a
        return
    limits, value = np.iinfo(a.dtype), int(a.item())
    others = (value + 1, value - 1, 0, value + 10)  # none far larger: it may be a size
    yield from (np.full_like(a, min(max(other, limits.min), limits.max)) for other in others)


def _redrawn(a: np.ndarray, rng: np.random.Generator, replacing: bool) -> np.ndarray:
    """Return the numbers of an array that is not constant at other places. The result differs from the array."""
    while True:
        other = rng.choice(np.ravel(a), a.size, replace=replacing).reshape(a.shape)
        if not np.array_equal(other, a):
            return other


def _default_buffers(problem: Problem, side: TorchSide, outcomes: Moves, seed: int) -> Iterator[str]:
    """Yield a line about buffers that hold only zeros or only ones, and that the outputs depend on."""
    rng = np.random.default_rng([seed, 0xDB])
    given = side.options.get("buffers") or {}
    own = {name: given.get(name, canonical(b)) for name, b in side.module.named_buffers()}
    default = [name for name, a in own.items() if a.size > 0 and (np.all(a == 0) or np.all(a == 1))]
    others = {name: _other_buffer(own[name], rng) for name in default}
    real = {name: a for name, a in others.items() if is_differentiable(a)}
    exact = {name: a for name, a in others.items() if name not in real}
    named = [*real] if real and not outcomes.never([problem], real) else []
    if exact and not outcomes.never([problem], exact):  # a count of batches is rarely used
        named += [name for name, a in exact.items() if not outcomes.never([problem], {name: a})] or [*exact]
    if named:
        yield (
            f"the buffers {names_text(named)} have their default values, 0 or 1: a port that ignores them passes. "
            "Give others with buffers="
        )


def _other_buffer(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if is_differentiable(a):
        return a + rng.uniform(0.5, 1.5, a.shape)
    return ~a if a.dtype.kind == "b" else (a + 1).astype(a.dtype)


def _checks_that_did_not_run(dtypes: Sequence[Precision]) -> Iterator[str]:
    if "float64" not in dtypes:
        yield "the float64 check did not run: only it tells a wrong function from rounding"
    if "float32" not in dtypes:
        yield "the float32 check did not run"


def _left_out(problem: Problem) -> Iterator[str]:
    """Yield a line about parameters and inputs whose gradients were not asked for."""
    arrays = {**problem.params, **problem.input_leaves}
    names = [name for name, a in arrays.items() if is_differentiable(a) and name not in problem.wrt]
    if names:
        yield f"no gradient with respect to {names_text(names)} is compared: wrt leaves it out"


class Moves:
    """Runs the torch module forward on other values, and compares with the outputs of the problem itself."""

    def __init__(self, problem: Problem, side: TorchSide) -> None:
        self.problem, self.side = problem, side

    def never(self, others: Iterable[Problem], buffers: Mapping[str, Any] | None = None) -> bool:
        """Return whether some of the other problems ran, and no problem that ran moved an output.

        A module may refuse other values, such as an index that is too large. That shows nothing.
        """
        ran = False
        for other in others:
            outputs = self._run(other, buffers)
            if outputs is not None and not self._is_as_before(outputs):
                return False
            ran = ran or outputs is not None
        return ran

    def _run(self, problem: Problem, buffers: Mapping[str, Any] | None = None) -> list[np.ndarray] | None:
        try:
            return self.side.forward(problem, buffers)
        except Exception:  # the user's own code may refuse such values in its own way
            return None

    @cached_property
    def _before(self) -> list[np.ndarray] | None:
        return self._run(self.problem)

    def _is_as_before(self, outputs: list[np.ndarray]) -> bool:
        return self._before is not None and all(map(_is_same, outputs, self._before))


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    if np.shape(a) != np.shape(b):
        return False
    if a.dtype.kind in "biu":
        return np.array_equal(a, b)
    return np.allclose(a, b, rtol=SAME, atol=0.0, equal_nan=True)
