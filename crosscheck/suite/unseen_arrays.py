"""What the values of arrays cannot show, in words: constants, signs, short axes, equal rows, symmetry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from crosscheck.core.problem import Problem, canonical, is_differentiable, is_static
from crosscheck.suite.torch_side import TorchSide

FEW = 8  # numbers: if there are fewer, their signs tell nothing
MOST = 4  # names in a line


def lines_about_arrays(problem: Problem, side: TorchSide) -> Iterator[str]:
    """Yield a line for each way in which the arrays of a problem are too special."""
    yield from _short_axes(problem)
    yield from _constants(problem, side)
    yield from _constant_params(problem, side)
    yield from _cotangents(problem)
    yield from _twins(problem)
    yield from _symmetric(problem, side)
    yield from _same_rows(problem)
    yield from _static(problem)
    yield from _one_sign(problem)


def _short_axes(problem: Problem) -> Iterator[str]:
    for name, a in problem.input_leaves.items():
        axes = [] if is_static(a) else [n for n, size in enumerate(np.shape(a)) if size == 1]
        if axes and (np.ndim(a) > 1 or is_differentiable(a)):
            which = f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"
            yield f"{name!r} has length 1 in {which}: what mixes or sums over it cannot be seen. Use at least 2"


def _constants(problem: Problem, side: TorchSide) -> Iterator[str]:
    for name, a in {**_arrays(side.options.get("kwargs") or {}), **problem.input_leaves}.items():
        if not is_static(a) and is_constant(a):
            yield f"every number of {name!r} is {np.ravel(a)[0]}: a port that ignores it may pass. Draw it at random"


def _constant_params(problem: Problem, side: TorchSide) -> Iterator[str]:
    """Yield a line about parameters that are one number everywhere, as many are when a module is new."""
    names = [name for name, a in problem.params.items() if is_constant(a) and name not in side.unused]
    if names:
        yield (
            f"every number of the parameters {names_text(names)} is the same: how they combine with others may not be "
            "seen. Draw them at random"
        )


def _cotangents(problem: Problem) -> Iterator[str]:
    """Yield lines about given cotangents. Random ones are neither constant nor symmetric."""
    for name, a in zip(problem.output_names, problem.cotangents, strict=True):
        special = "one number everywhere" if is_constant(a) else "symmetric" if _is_symmetric(a) else ""
        if special and np.any(a):
            yield f"the cotangent of {name!r} is {special}: a backward pass that transposes or sums it may pass"


def _twins(problem: Problem) -> Iterator[str]:
    """Yield a line about inputs that hold the same numbers. Inputs with a gradient differ in their gradients."""
    arrays = {name: a for name, a in problem.input_leaves.items() if not is_static(a) and not is_constant(a)}
    names = [name for name in arrays if name not in problem.wrt]
    for n, first in enumerate(names):
        for second in names[n + 1 :]:
            if np.size(arrays[first]) > 1 and np.array_equal(arrays[first], arrays[second]):
                yield f"{first!r} and {second!r} hold the same numbers: a port that takes one for the other passes"


def _symmetric(problem: Problem, side: TorchSide) -> Iterator[str]:
    """Yield a line about matrices that are symmetric. Those with a gradient show a transpose by it."""
    buffers = {name: canonical(a) for name, a in side.module.named_buffers()} | dict(side.options.get("buffers") or {})
    for name, a in {**problem.params, **buffers, **problem.input_leaves}.items():
        if name not in problem.wrt and not is_static(a) and _is_symmetric(np.asarray(a)) and not is_constant(a):
            yield f"{name!r} is symmetric: a port that transposes it passes"


def _is_symmetric(a: np.ndarray) -> bool:
    square = a.ndim >= 2 and a.shape[-1] == a.shape[-2] > 1
    return square and np.array_equal(a, np.swapaxes(a, -1, -2))


def _arrays(kwargs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays among the keyword arguments of the torch module, by name."""
    return {
        f"{path[0].key}{jax.tree_util.keystr(path[1:])}": canonical(a)
        for path, a in jax.tree_util.tree_flatten_with_path(dict(kwargs))[0]
        if not is_static(a)
    }


def is_constant(a: Any) -> bool:
    """Return whether an array of at least two numbers holds only one."""
    return np.size(a) > 1 and bool(np.all(a == np.ravel(a)[0]))


def _same_rows(problem: Problem) -> Iterator[str]:
    for name, a in problem.input_leaves.items():
        rows = np.shape(a)[0] if not is_static(a) and np.ndim(a) > 1 else 0
        if rows > 1 and not is_differentiable(a) and not is_constant(a) and np.all(a == a[:1]):
            yield f"{name!r} is the same in every row: a port that takes it from another row passes"


def _static(problem: Problem) -> Iterator[str]:
    for name, value in problem.input_leaves.items():
        if isinstance(value, bool | int | str):
            yield f"{name!r} is {value!r} in this check: other values are not compared"


def _one_sign(problem: Problem) -> Iterator[str]:
    for name, a in problem.input_leaves.items():
        is_real = is_differentiable(a) and not np.iscomplexobj(a)
        if not is_real or np.size(a) < FEW or is_constant(a):  # `_constants` has a line about the last
            continue
        sign = "negative" if np.all(a > 0) else "positive" if np.all(a < 0) else ""
        if sign:
            yield f"no number of {name!r} is {sign} or 0: what happens to those cannot be seen"


def names_text(names: Sequence[str]) -> str:
    """Return names in words, not more than four of them."""
    return ", ".join(map(repr, names[:MOST])) + f" and {len(names) - MOST} more" * (len(names) > MOST)
