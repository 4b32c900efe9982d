"""Finds out from one step how a foreign LSTM cell keeps its weights.

The cell is a black box. One step on random weights, input and state is compared with every explanation that the shapes
of its arrays allow (`layouts`, `candidates`). The right explanation errs only by rounding. All others are far off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from crosscheck.core.problem import canonical
from crosscheck.discovery.candidates import Pair, Scored, Step, count, equivalent, rank
from crosscheck.discovery.conventions import TORCH_ORDER
from crosscheck.discovery.layouts import (
    Layout,
    Shape,
    other_orders,
    possible_layouts,
    sizes,
    with_one_order,
    with_other_orders,
)
from crosscheck.discovery.weight_map import Candidate, RunnerUp, WeightMap

BATCH = 3
BUDGET = 1_500_000  # candidates: about two seconds
Cell: TypeAlias = Callable[[Any, Any, tuple[Any, Any]], tuple[Any, Any]]


def discover(
    fn: Cell, params_like: Any, *, input_size: int | None = None, hidden_size: int | None = None, seed: int = 0
) -> WeightMap:
    """Find the weight map of a black-box LSTM cell: layout, gate order, bias rule and state order.

    B is the batch size, D the input size and H the hidden size.

    Args:
      fn: `fn(params, x, (h, c))` returns the next (h, c): one step with x `[B, D]`, and h and c `[B, H]`. Wrap the call
        of your library. It may take or return the state as (c, h); this is found out. It is called once, in `float64`.
        A cell that knows only `float32` may cast. It gets arrays of the kind in `params_like`: torch tensors, NumPy
        arrays, else jax arrays.
      params_like: the parameters of the cell in the structure of the library: any pytree of arrays or
        jax.ShapeDtypeStruct. Values do not matter. Matrices may be fused, joint over `[x, h]` or `[h, x]`, or one per
        gate, as `[in, out]` or `[out, in]`. There may be no, one or two biases.
      input_size: D, if the shapes do not determine it.
      hidden_size: H, if the shapes do not determine it.
      seed: the seed of the random step.

    Returns:
      The weight map. Look at `decided` first.

    Raises:
      TypeError: a leaf of `params_like` is no array, or `fn` returns complex numbers.
      ValueError: the leaves cannot belong to an LSTM cell, or `fn` does not return two finite arrays `[B, H]`.
      Exception: whatever `fn` raises.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> import crosscheck
      >>> cell = nn.OptimizedLSTMCell(5)
      >>> params = cell.init(jax.random.key(0), (jnp.zeros((1, 5)), jnp.zeros((1, 5))), jnp.zeros((1, 3)))
      >>> weight_map = crosscheck.discover(lambda params, x, state: cell.apply(params, state, x)[0], params)
      >>> weight_map.decided, weight_map.state_order
      (True, 'ch')
    """
    leaves, structure, names, shapes = _flatten(params_like)
    ranked: list[Scored] = []
    tried = 0
    failure: Exception | None = None
    for d, h in sizes(shapes, input_size, hidden_size):
        possible = possible_layouts(shapes, d, h)
        if not possible:
            continue
        try:
            step = _observe(fn, leaves, structure, d, h, seed)
        except Exception as error:  # only the right one of several possible sizes must run
            failure = failure or error
            continue
        possible = _in_other_orders(possible)
        ranked += rank(step, possible)
        tried += count(possible)
    if not ranked:
        raise failure or ValueError(_no_layout(names, shapes, input_size, hidden_size))
    best, other = _best_two(ranked)
    candidate = _in_torch_order(best.candidate)
    runner_up = RunnerUp(_in_torch_order(other.candidate).differences(candidate, names), other.error)
    return WeightMap(candidate, best.error, runner_up, tried, names, shapes, structure)


def _flatten(params_like: Any) -> tuple[list[Any], Any, tuple[str, ...], tuple[Shape, ...]]:
    """Return the leaves, their structure, names and shapes."""
    paths, structure = jax.tree_util.tree_flatten_with_path(params_like)
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path, _ in paths)
    for name, (_, leaf) in zip(names, paths, strict=True):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"params_like[{name!r}] must be an array or a shape; got {type(leaf).__name__}.")
        if not (str(leaf.dtype).startswith("torch.") or jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise ValueError(
                f"params_like[{name!r}] must be floating-point; got {leaf.dtype}. Pass only the weights, without "
                "counters or random keys."
            )
    return [leaf for _, leaf in paths], structure, names, tuple(tuple(leaf.shape) for _, leaf in paths)


def _in_other_orders(possible: Sequence[Layout]) -> list[Layout]:
    """Put arrays per gate into every order. If these are too many candidates, all groups share one order."""
    every = sum(count([layout]) * prod(map(len, other_orders(layout))) for layout in possible)
    orders = with_other_orders if every <= BUDGET else with_one_order
    return [ordered for layout in possible for ordered in orders(layout)]


def _observe(fn: Cell, like: Sequence[Any], structure: Any, input_size: int, hidden_size: int, seed: int) -> Step:
    """Run one step of ``fn`` on numbers that all differ. Sums have order one, so that no gate is saturated."""
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
    """Return the function that makes an array of the kind that ``fn`` expects."""
    if any(str(a.dtype).startswith("torch.") for a in like):
        import torch

        return torch.tensor
    return np.array if all(isinstance(a, np.ndarray) for a in like) else jnp.asarray


def _checked(out: Any, shape: Shape) -> Pair:
    hint = "If the cell returns (carry, y), wrap it and return the carry."
    parts = out if isinstance(out, (tuple, list)) else ()
    if len(parts) != 2 or any(tuple(getattr(part, "shape", ())) != shape for part in parts):
        raise ValueError(f"fn must return a pair of arrays {shape}, the next h and c; got {_told(out)}. {hint}")
    first, second = canonical(out[0]), canonical(out[1])
    if np.iscomplexobj(first) or np.iscomplexobj(second):
        raise TypeError("fn must return real numbers, the next h and c; got complex ones.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("fn returned NaN or inf on finite weights, input and state; there is nothing to compare.")
    return first, second


def _told(out: Any) -> str:
    if isinstance(out, (tuple, list)):
        return f"{type(out).__name__} of {len(out)}: {', '.join(map(_told, out))}"
    return f"{type(out).__name__}{f' {tuple(out.shape)}' if hasattr(out, 'shape') else ''}"


def _best_two(ranked: Sequence[Scored]) -> tuple[Scored, Scored]:
    """Return the best candidate, and the best of those that compute something else.

    Equivalent candidates count as one, such as two that add the same two biases in another order.
    """
    best = min(ranked, key=lambda one: one.error)
    others = [one for one in ranked if not equivalent(one, best)]
    return best, min(others, key=lambda one: one.error)


def _in_torch_order(candidate: Candidate) -> Candidate:
    """Name arrays per gate in torch's order if no group is fused. They have no order of their own."""
    layout, convention = candidate.layout, candidate.convention
    if any(group.fused for group in layout.groups):
        return candidate
    order = [convention.gates.index(gate) for gate in TORCH_ORDER]
    layout = layout.ordered([order] * len(layout.groups))
    return replace(candidate, layout=layout, convention=replace(convention, gates=TORCH_ORDER))


def _no_layout(names: Sequence[str], shapes: Sequence[Shape], input_size: int | None, hidden_size: int | None) -> str:
    leaves = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True)) or "no leaves"
    given = {"input_size": input_size, "hidden_size": hidden_size}
    wanted = " with " + " and ".join(f"{n}={v}" for n, v in given.items() if v) if any(given.values()) else ""
    return (
        f"params_like cannot belong to an LSTM cell{wanted}: {leaves}, {sum(map(prod, shapes))} numbers in all. "
        "Expected 4H(D + H) weights as [4H, D] and [4H, H], as [4H, D + H], or as one array per gate, each of them "
        "transposed or not, and 0, 4H or 8H biases. Pass one layer in one direction. Peepholes and projections are not "
        "searched."
    )
