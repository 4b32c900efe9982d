"""Makes what `crosscheck.check` judges from its arguments: the problem, the port and the torch module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from crosscheck.core.port import Port
from crosscheck.core.problem import Problem, canonical
from crosscheck.core.structure import order_of, structure_text, tree_outputs
from crosscheck.core.torch_runner import call_module
from crosscheck.suite.arguments import (
    canonical_buffers,
    canonical_inputs,
    canonical_params,
    chosen_names,
    input_names,
    longest_axis,
    random_like,
    require_names,
    require_options,
    require_pair,
)
from crosscheck.suite.torch_side import TorchSide
from crosscheck.suite.trial import Trial, in_layout_of, ordered_port, port_outputs, tensors_as_in, try_module


@dataclass(frozen=True)
class SetUp:
    """What `check` judges.

    Attributes:
      problem: the problem, with outputs and cotangents.
      trial: what one run of the torch module showed.
      port: the JAX function.
      side: the torch module.
      seed: the seed of the perturbations.
    """

    problem: Problem
    trial: Trial
    port: Port
    side: TorchSide
    seed: int


def set_up(
    jax_fn: Callable[..., Any],
    torch_module: torch.nn.Module,
    params: Mapping[str, Any],
    inputs: Sequence[Any],
    *,
    torch_fn: Callable[..., Any] | None = None,
    output_names: Sequence[str] | None = None,
    cotangents: Any = None,
    seed: int = 0,
    wrt: Iterable[str] | None = None,
    buffers: Mapping[str, Any] | None = None,
    train: bool = False,
    torch_kwargs: Mapping[str, Any] | None = None,
    second_order: bool = False,
) -> SetUp:
    """Return what `check` judges, from the same arguments. Nothing is judged yet."""
    require_pair(jax_fn, torch_module)
    require_options(seed, torch_kwargs, buffers)
    require_names("output_names", output_names)
    torch_fn = torch_fn or call_module
    params = canonical_params(params, torch_module)
    values = canonical_inputs(inputs)
    names = input_names(jax_fn, values, params)
    problem = Problem(params, values, names, (), (), (), longest_axis(values))
    problem = replace(problem, wrt=chosen_names(wrt, params, problem.input_leaves))
    if second_order:
        problem = replace(problem, tangents=_tangents(problem, seed))
    options: dict[str, Any] = {
        "buffers": canonical_buffers(buffers or {}, torch_module),
        "train": train,
        "kwargs": torch_kwargs,
    }
    trial = _named(try_module(torch_module, torch_fn, problem, **options), output_names)
    ported = port_outputs(jax_fn, problem)
    trial = in_layout_of(trial, ported)
    problem = replace(problem, output_names=trial.names, cotangents=_cotangents(cotangents, trial, seed))
    port = Port(ordered_port(jax_fn, trial.paths, ported.paths))
    side = TorchSide(torch_module, tensors_as_in(trial, torch_fn), options, lifts=bool(trial.narrow))
    return SetUp(problem, trial, port, side, seed)


def _named(trial: Trial, given: Sequence[str] | None) -> Trial:
    """Return the trial with the user's names of outputs, if there are some."""
    names = tuple(given or ())
    if not names:
        return trial
    if len(names) != len(trial.outputs):
        raise ValueError(f"output_names must name {len(trial.outputs)} outputs; got {list(names)}.")
    return replace(trial, names=names)


def _tangents(problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """Return a random tangent for each name to differentiate with respect to."""
    rng = np.random.default_rng([seed, 0x2D])
    leaves = {**problem.input_leaves, **problem.params}
    return {name: random_like(rng, leaves[name]) for name in problem.wrt}


def _cotangents(given: Any, trial: Trial, seed: int) -> tuple[np.ndarray, ...]:
    """Return a cotangent per output: zero if torch gives no gradient through it."""
    if given is None:
        rng = np.random.default_rng([seed, 0xC0])  # default_rng(seed) is what users draw their inputs from
        leaves = [random_like(rng, output) for output in trial.outputs]
    else:
        leaves = _given_cotangents(given, trial)
    return tuple(0 * leaf if n in trial.outputs_without_gradient else leaf for n, leaf in enumerate(leaves))


def _given_cotangents(given: Any, trial: Trial) -> list[np.ndarray]:
    tree = tree_outputs(given)
    if set(tree.paths) != set(trial.paths):
        raise ValueError(
            f"cotangents must have the outputs' structure {structure_text(trial.paths)}; "
            f"got {structure_text(tree.paths)}."
        )
    leaves = [canonical(tree.leaves[n]) for n in order_of(trial.paths, tree.paths)]
    for n, (leaf, output) in enumerate(zip(leaves, trial.outputs, strict=True)):
        if np.shape(leaf) != np.shape(output):
            raise ValueError(f"cotangents of output {n} must have shape {np.shape(output)}; got {np.shape(leaf)}.")
        if np.iscomplexobj(leaf) and not np.iscomplexobj(output):
            raise TypeError(f"cotangents of output {n} must be real, as the output is; got {leaf.dtype}.")
    return [
        leaf.astype(np.complex128) if np.iscomplexobj(o) else leaf
        for leaf, o in zip(leaves, trial.outputs, strict=True)
    ]
