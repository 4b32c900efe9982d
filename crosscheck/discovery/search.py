"""Finds out how a foreign LSTM cell keeps its weights by watching one step of it.

The cell is a black box. One step on random weights, input and state is compared with every explanation that the
shapes of its arrays allow (`layouts`, `candidates`). One that is right errs by rounding alone; all others are far off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crosscheck.core.problem import canonical
from crosscheck.discovery.candidates import Pair, Scored, Step, count, equivalent, rank
from crosscheck.discovery.conventions import TORCH_ORDER
from crosscheck.discovery.layouts import Layout, Shape, layouts, other_orders, sizes, with_one_order, with_other_orders
from crosscheck.discovery.weight_map import Candidate, RunnerUp, WeightMap

BATCH = 3
BUDGET = 1_500_000  # candidates: some two seconds
Cell = Callable[[Any, Any, tuple[Any, Any]], tuple[Any, Any]]


def discover(
    fn: Cell, params_like: Any, *, input_size: int | None = None, hidden_size: int | None = None, seed: int = 0
) -> WeightMap:
    """Finds the weight map of a black-box LSTM cell: layout, gate order, bias rule and state order.

    Axes: B rows, D inputs, H hidden.

    Args:
      fn: ``fn(params, x, (h, c)) -> (h', c')``, one step: x ``[B, D]``, h and c ``[B, H]``. Wrap your library's call.
        The state may also be taken or returned as (c, h): that is found out. It is called once, in float64; a cell
        that only knows float32 may cast. It gets torch tensors where ``params_like`` has them, NumPy arrays where
        it has those, else jax arrays.
      params_like: the cell's parameters in the library's own structure, any pytree of arrays or jax.ShapeDtypeStruct.
        Values do not matter. Matrices may be fused, joint over [x, h] or [h, x], or one a gate, either way round;
        biases may be there once, twice or not at all.
      input_size, hidden_size: D and H, if the shapes alone leave them open.
      seed: of the random step.

    Returns:
      A :class:`~crosscheck.discovery.weight_map.WeightMap`. Look at ``decided`` first.

    Raises:
      TypeError: a leaf of ``params_like`` is no array.
      ValueError: the leaves cannot be an LSTM cell's, or ``fn`` returned something else than two finite arrays
        ``[B, H]``. What ``fn`` itself raises comes through.
    """
    leaves, structure, names, shapes = _flatten(params_like)
    ranked: list[Scored] = []
    tried = 0
    failure: Exception | None = None
    for d, h in sizes(shapes, input_size, hidden_size):
        possible = layouts(shapes, d, h)
        if not possible:
            continue
        try:
            step = _observe(fn, leaves, structure, d, h, seed)
        except Exception as error:  # of several possible sizes only the right ones need to run
            failure = failure or error
            continue
        possible = _in_other_orders(possible)
        ranked += rank(step, possible)
        tried += count(possible)
    if not ranked:
        raise failure or ValueError(_no_layout(names, shapes, input_size, hidden_size))
    best, other = _best_two(ranked)
    found = _tidied(best.candidate)
    runner_up = RunnerUp(_tidied(other.candidate).differences(found, names), other.error)
    return WeightMap(found, best.error, runner_up, tried, names, shapes, structure)


def _flatten(params_like):
    paths, structure = jax.tree_util.tree_flatten_with_path(params_like)
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path, _ in paths)
    for name, (_, leaf) in zip(names, paths, strict=True):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"params_like[{name!r}] must be an array or a shape; got {type(leaf).__name__}.")
        if not (str(leaf.dtype).startswith("torch.") or jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise ValueError(
                f"params_like[{name!r}] must be floating-point; got {leaf.dtype}. Pass the weights alone, without "
                "counters or random keys."
            )
    return [leaf for _, leaf in paths], structure, names, tuple(tuple(leaf.shape) for _, leaf in paths)


def _in_other_orders(possible: Sequence[Layout]) -> list[Layout]:
    """With arrays a gate in every order, if that makes few enough candidates; else in one order in every group."""
    every = sum(count([layout]) * prod(map(len, other_orders(layout))) for layout in possible)
    orders = with_other_orders if every <= BUDGET else with_one_order
    return [ordered for layout in possible for ordered in orders(layout)]


def _observe(fn: Cell, like: Sequence[Any], structure, input_size: int, hidden_size: int, seed: int) -> Step:
    """One step of ``fn`` on numbers that all differ: sums of order one, so that no gate is saturated."""
    rng = np.random.default_rng([seed, input_size, hidden_size])
    bound = 1 / np.sqrt(input_size + hidden_size)
    leaves = [rng.normal(size=a.shape) * (bound if prod(a.shape) > 8 * hidden_size else 0.5) for a in like]
    x = rng.normal(size=(BATCH, input_size))
    given = (rng.uniform(-0.9, 0.9, (BATCH, hidden_size)), rng.normal(size=(BATCH, hidden_size)))
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        kind = _kind(like)
        params = jax.tree.unflatten(structure, [kind(a) for a in leaves])
        try:
            out = fn(params, kind(x), (kind(given[0]), kind(given[1])))
        except Exception as error:
            error.add_note(f"discover called fn(params, x {x.shape}, (h, c) {given[0].shape} each) in float64.")
            raise
        return Step(leaves, x, given, _checked(out, given[0].shape))


def _kind(like: Sequence[Any]) -> Callable[[np.ndarray], Any]:
    """What makes an array of the kind that ``fn`` is used to."""
    if any(str(a.dtype).startswith("torch.") for a in like):
        import torch

        return torch.tensor
    return np.array if all(isinstance(a, np.ndarray) for a in like) else jnp.asarray


def _checked(out: Any, shape: Shape) -> Pair:
    hint = "A cell that returns (carry, y) is wrapped by returning its carry."
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise ValueError(f"fn must return a pair of arrays {shape}, the next h and c; got {_told(out)}. {hint}")
    for part in out:
        if tuple(getattr(part, "shape", ())) != shape:
            raise ValueError(f"fn must return a pair of arrays {shape}, the next h and c; got {_told(out)}. {hint}")
    first, second = canonical(out[0]), canonical(out[1])
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("fn returned NaN or inf on finite weights, input and state; there is nothing to compare.")
    return first, second


def _told(out: Any) -> str:
    if isinstance(out, (tuple, list)):
        return f"{type(out).__name__} of {len(out)}: {', '.join(map(_told, out))}"
    return f"{type(out).__name__}{f' {tuple(out.shape)}' if hasattr(out, 'shape') else ''}"


def _best_two(ranked: Sequence[Scored]) -> tuple[Scored, Scored]:
    """The best, and the best of those that compute something else. Candidates that cannot be told apart, such as those
    that add the same two biases in another order, are one.
    """
    best = min(ranked, key=lambda one: one.error)
    others = [one for one in ranked if not equivalent(one, best)]
    return best, min(others, key=lambda one: one.error)


def _tidied(candidate: Candidate) -> Candidate:
    """Arrays a gate have no order of their own: where no group is fused, they are named in torch's."""
    layout, convention = candidate.layout, candidate.convention
    if any(group.fused for group in layout.groups):
        return candidate
    order = [convention.gates.index(gate) for gate in TORCH_ORDER]
    layout = layout.ordered([order] * len(layout.groups))
    return replace(candidate, layout=layout, convention=replace(convention, gates=TORCH_ORDER))


def _no_layout(names, shapes, input_size, hidden_size) -> str:
    leaves = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True)) or "no leaves"
    given = {"input_size": input_size, "hidden_size": hidden_size}
    wanted = " with " + " and ".join(f"{n}={v}" for n, v in given.items() if v) if any(given.values()) else ""
    return (
        f"params_like cannot be an LSTM cell's{wanted}: {leaves}, {sum(map(prod, shapes))} numbers in all. Expected "
        "4H(D + H) weights as [4H, D] and [4H, H], as [4H, D + H], or one array a gate, each either way round; and no "
        "bias, 4H or 8H numbers of them. Pass one layer in one direction; peepholes and projections are not searched."
    )
