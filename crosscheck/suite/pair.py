"""`crosscheck.check`: a JAX function against a torch module, on shared arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from crosscheck.core.environment import describe_environment
from crosscheck.core.jax_runner import output_structure, run_jax
from crosscheck.core.judge import run_checks
from crosscheck.core.problem import Arrays, Problem, canonical, is_floating
from crosscheck.core.reference import measure_reference
from crosscheck.core.torch_runner import TorchFn, call_module, run_torch, tensor_leaves
from crosscheck.core.verdict import Verdict
from crosscheck.diagnosis.causes import likely_cause
from crosscheck.suite.lstm_pair import as_lstm, slicings_of


def check(
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
) -> Verdict:
    """Judge whether a JAX function and a torch module compute the same outputs and the same gradients.

    The truth is the torch module in float64. Everything is compared in float64 and in float32. The limits are measured
    on this problem; see `crosscheck.core.criterion`. If T is not known, the longest axis of the inputs counts as T.

    Args:
      jax_fn: ``jax_fn(params, *inputs)`` -> a pytree of arrays. It is jitted, and differentiated by jax.vjp.
      torch_module: ``torch_module(*inputs)`` -> the same structure of tensors. A deep copy of it runs, in eval mode.
      params: arrays by the names of ``torch_module.named_parameters()``. jax_fn receives this dict.
      inputs: a sequence of pytrees of arrays, such as ``(x, (h0, c0))``. Integer and bool leaves do not change.
      torch_fn: ``torch_fn(module, *inputs)`` in place of ``module(*inputs)``, such as to pack, or to choose outputs.
      output_names: a name for each output array, in order; default "output 0", ...
      cotangents: a pytree with the structure of the outputs; default random normal numbers from ``seed``.
      seed: of the random cotangents and of the perturbations that measure the condition.
      wrt: names to differentiate with respect to; default all floating-point params and inputs. Inputs have the names
        of jax_fn's arguments, such as "x" and "state[0]". If it has none, they are "input 0", ...
      buffers: arrays that replace the module's buffers of these names.
      train: run the module in train mode. A module that then draws random numbers is an error.

    Returns:
      The verdict: ``ok``, ``findings``, and ``str(verdict)`` in words.

    Raises:
      TypeError, ValueError: names, shapes or structures do not fit. The message says which.
      CouldNotRun: one of the two cannot compute what was asked.

    Example:
      >>> module = torch.nn.Linear(3, 5)
      >>> params = {name: p.detach().numpy() for name, p in module.named_parameters()}
      >>> port = lambda params, x: x @ params["weight"].T + params["bias"]
      >>> check(port, module, params, (np.ones((2, 3)),)).ok
      True
    """
    torch_fn = torch_fn or call_module
    if not isinstance(inputs, tuple | list):
        raise TypeError(
            f"inputs must be a tuple of pytrees, one per argument; got {type(inputs).__name__}. Write (x,)."
        )
    params = _canonical_params(params, torch_module)
    values: tuple[Any, ...] = jax.tree.map(canonical, tuple(inputs))
    names = _input_names(jax_fn, values, params)
    problem = Problem(params, values, names, (), (), ())
    state_of_module = _canonical_buffers(buffers or {}, torch_module)
    run = partial(run_torch, torch_module, torch_fn=torch_fn, buffers=state_of_module, train=train)

    outputs, structure = _trial(torch_module, torch_fn, problem, state_of_module, train)
    names_out = tuple(output_names or (f"output {n}" for n in range(len(outputs))))
    if len(names_out) != len(outputs):
        raise ValueError(f"output_names must name {len(outputs)} outputs; got {list(names_out)}.")
    _check_structure(jax_fn, problem, structure)
    problem = replace(
        problem,
        output_names=names_out,
        cotangents=_cotangents(cotangents, outputs, structure, seed),
        wrt=_wrt(wrt, params, problem.input_leaves),
        steps=_steps(values),
    )
    unused: list[str] = []
    truth = partial(run, dtype="float64", unused=unused)
    paths = [partial(run, dtype="float32", onednn=onednn) for onednn in (True, False)]
    port = partial(run_jax, lambda *arguments: jax_fn(*arguments))  # a new function, since jax_fn may call edited code
    pair = as_lstm(problem, port, truth, paths)
    steps = problem.steps if pair is None else pair.network.case.steps
    problem = replace(problem, slicings=slicings_of(problem, pair), steps=steps)
    reference = measure_reference(problem, truth, paths, seed=seed)
    notes = [f"torch gives no gradient for {name!r} (None); it counts as zero" for name in unused]
    notes += _silent(problem, outputs)
    lines: tuple[str, ...] = ()
    if pair is None:
        findings = run_checks(problem, reference, port)
    else:
        notes += pair.notes()
        checked = run_checks(problem, reference, port, stand_ins=pair.stand_ins)
        findings = (*pair.network.input_findings, *checked)
        lines = pair.explain(findings)
    return Verdict(findings, tuple(notes), likely_cause(findings, reference), lines, describe_environment())


def assert_agree(*arguments: Any, **options: Any) -> Verdict:
    """Return the verdict of :func:`check`, which takes the same arguments.

    Raises:
      AssertionError: the verdict is not "agree". The message is the verdict in words.
    """
    __tracebackhide__ = True
    return require_agreement(check(*arguments, **options))


def require_agreement(verdict: Verdict) -> Verdict:
    """Return the verdict.

    Raises:
      AssertionError: it is not "agree".
    """
    __tracebackhide__ = True
    if not verdict.ok:
        raise AssertionError(str(verdict))
    return verdict


def _canonical_params(params: Mapping[str, Any], module: torch.nn.Module) -> Arrays:
    if not isinstance(params, Mapping):
        raise TypeError(f"params must map names to arrays; got {type(params).__name__}.")
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    missing, extra = shapes.keys() - params.keys(), params.keys() - shapes.keys()
    if missing or extra:
        raise ValueError(
            "params must have exactly the names of torch_module.named_parameters(): "
            f"missing {sorted(missing) or 'none'}, unknown {sorted(extra) or 'none'}. Tied parameters are named once."
        )
    for name, shape in shapes.items():
        if tuple(np.shape(params[name])) != shape:
            raise ValueError(f"params[{name!r}] must have shape {shape}; got {tuple(np.shape(params[name]))}.")
    return {name: canonical(params[name]) for name in shapes}


def _canonical_buffers(buffers: Mapping[str, Any], module: torch.nn.Module) -> Arrays:
    shapes = {name: tuple(b.shape) for name, b in module.named_buffers()}
    for name, value in buffers.items():
        if shapes.get(name) != tuple(np.shape(value)):
            raise ValueError(
                f"buffers[{name!r}] must be one of the module's buffers {shapes}; got shape {tuple(np.shape(value))}."
            )
    return {name: canonical(value) for name, value in buffers.items()}


def _steps(inputs: tuple[Any, ...]) -> int:
    """Return T, over which rounding accumulates: the longest axis, since a sum may run over any of them."""
    return max((n for leaf in jax.tree.leaves(inputs) for n in np.shape(leaf)), default=1)


def _silent(problem: Problem, outputs: Sequence[np.ndarray]) -> list[str]:
    """Return notes about outputs through which no gradient is compared."""
    pairs = zip(problem.output_names, problem.cotangents, outputs, strict=True)
    silent = [name for name, cotangent, output in pairs if is_floating(output) and not np.any(cotangent)]
    return [f"the cotangent of {name!r} is zero: no gradient through it is compared" for name in silent]


def _input_names(jax_fn: Callable[..., Any], inputs: tuple[Any, ...], params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a name per leaf: that of the argument in jax_fn's signature, or "input 0" and so on if it has none."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(inputs)[0]]
    arguments = _argument_names(jax_fn, len(inputs))
    own = tuple(f"{arguments[path[0].idx]}{jax.tree_util.keystr(path[1:])}" for path in paths)
    if len(set(own)) == len(own) and not set(own) & set(params):
        return own
    return tuple(f"input {path[0].idx}{jax.tree_util.keystr(path[1:])}" for path in paths)


def _argument_names(jax_fn: Callable[..., Any], count: int) -> list[str]:
    numbered = [f"input {n}" for n in range(count)]
    try:
        named = [
            p.name
            for p in inspect.signature(jax_fn).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return numbered
    return named[1 : count + 1] if len(named) > count else numbered


def _trial(
    module: torch.nn.Module, torch_fn: TorchFn, problem: Problem, buffers: Arrays, train: bool
) -> tuple[list[np.ndarray], Any]:
    """Return the module's outputs in float64 and their structure. In train mode two runs must be equal."""
    kept: list[Any] = []

    def call(module: torch.nn.Module, *inputs: Any) -> tuple[()]:
        out = torch_fn(module, *inputs)
        tensor_leaves(out)
        kept.append(jax.tree.map(lambda a: a.detach().numpy(), out))
        return ()

    for _ in range(2 if train else 1):
        run_torch(module, problem, "float64", torch_fn=call, buffers=buffers, train=train)
    leaves = [jax.tree.leaves(out) for out in kept]
    if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(leaves[0], leaves[-1], strict=True)):
        raise ValueError(
            "train=True, and the torch module draws random numbers: two runs differ. Set its dropout to 0."
        )
    return leaves[0], jax.tree.structure(kept[0])


def _check_structure(jax_fn: Callable[..., Any], problem: Problem, structure: Any) -> None:
    out = output_structure(jax_fn, problem)
    if out != structure:
        raise ValueError(
            f"jax_fn must return the structure that the torch module returns, {_shown(structure)}; got {_shown(out)}. "
            "Reorder or unpack its outputs, such as an LSTMState into (state.h, state.c)."
        )


def _shown(structure: Any) -> str:
    return str(structure).removeprefix("PyTreeDef(").removesuffix(")")


def _cotangents(cotangents: Any, outputs: Sequence[np.ndarray], structure: Any, seed: int) -> tuple[np.ndarray, ...]:
    if cotangents is None:
        rng = np.random.default_rng(seed)
        return tuple(rng.normal(size=np.shape(o)) if is_floating(o) else np.zeros(np.shape(o)) for o in outputs)
    if jax.tree.structure(cotangents) != structure:
        raise ValueError(
            f"cotangents must have the outputs' structure {_shown(structure)}; "
            f"got {_shown(jax.tree.structure(cotangents))}."
        )
    leaves = tuple(map(canonical, jax.tree.leaves(cotangents)))
    for n, (leaf, output) in enumerate(zip(leaves, outputs, strict=True)):
        if np.shape(leaf) != np.shape(output):
            raise ValueError(f"cotangents of output {n} must have shape {np.shape(output)}; got {np.shape(leaf)}.")
    return leaves


def _wrt(wrt: Iterable[str] | None, params: Arrays, inputs: Arrays) -> tuple[str, ...]:
    known = {name: a for name, a in {**params, **inputs}.items() if is_floating(a)}
    if wrt is None:
        return tuple(known)
    chosen = tuple(wrt)
    for name in chosen:
        if name not in known:
            raise ValueError(f"wrt must name floating-point params or inputs; got {name!r}, known: {', '.join(known)}.")
    return chosen
