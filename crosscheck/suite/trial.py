"""The trial: one forward run of the torch module, which says what it returns, and which buffers it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import torch

from crosscheck.core.inside.narrow import NarrowType
from crosscheck.core.inside.watch import Watch
from crosscheck.core.jax_shapes import forget_arrays, output_shapes
from crosscheck.core.problem import Problem, canonical, is_differentiable, real_pairs
from crosscheck.core.structure import Outputs, Path, jax_outputs, order_of, torch_outputs
from crosscheck.core.torch_runner import TorchFn, run_torch

SAME = 1e-6  # share of the largest number: more than two kernels differ in float64, less than a drawn number changes


@dataclass(frozen=True)
class Trial:
    """What one run of the torch module in float64 showed.

    Attributes:
      outputs: the arrays that it returned. Complex ones are complex.
      paths: the path of each output in what the module returned.
      names: the name of each output.
      packed: the paths of outputs that were a PackedSequence.
      changed_buffers: the names of buffers that the forward pass changed.
      lost_buffers: the changed buffers that are not among the outputs, so that nothing compares them.
      outputs_without_gradient: the positions of floating-point outputs through which torch gives no gradient.
      narrow: where the module computes in a narrower type than float64.
      one_sided: choices in the module that showed only one side, in words.
      train: whether it ran in train mode.
      steps_first: whether a PackedSequence is padded to ``[T, B, ...]`` and not to ``[B, T, ...]``.
    """

    outputs: tuple[np.ndarray, ...]
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    packed: tuple[Path, ...]
    changed_buffers: tuple[str, ...]
    lost_buffers: tuple[str, ...]
    outputs_without_gradient: tuple[int, ...]
    narrow: tuple[NarrowType, ...] = ()
    one_sided: tuple[str, ...] = ()
    train: bool = False
    steps_first: bool = False

    @property
    def real_outputs(self) -> list[np.ndarray]:
        """The outputs, complex ones as pairs of real numbers."""
        return [real_pairs(output) for output in self.outputs]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the outputs."""
        return [np.shape(output) for output in self.outputs]


def try_module(module: torch.nn.Module, torch_fn: TorchFn, problem: Problem, **options: Any) -> Trial:
    """Run the forward pass of a module once, in float64.

    Args:
      module: the module.
      torch_fn: called as ``torch_fn(module, *inputs, **kwargs)``.
      problem: the problem. It may lack outputs and cotangents.
      options: the options of `run_torch`.
    """
    seen: list[tuple[Any, dict[str, torch.Tensor], torch.nn.Module, Watch]] = []

    def call(copied: torch.nn.Module, *inputs: Any, **kwargs: Any) -> tuple[()]:
        before = {name: buffer.clone() for name, buffer in copied.named_buffers()}
        with Watch() as watch:
            out = torch_fn(copied, *inputs, **kwargs)
        seen.append((out, before, copied, watch))
        return ()

    run_torch(module, replace(problem, output_names=(), cotangents=()), "float64", torch_fn=call, **options)
    ((out, before, copied, watch),) = seen
    trial = _seen(torch_outputs(out), before, dict(copied.named_buffers()))
    without = trial.outputs_without_gradient if problem.wrt else ()
    return replace(
        trial,
        outputs_without_gradient=without,
        narrow=tuple(watch.narrow),
        one_sided=tuple(watch.one_sided),
        train=options.get("train", False),
    )


def require_repeatable(trial: Trial, results: Sequence[np.ndarray]) -> None:
    """Check that another run gave the outputs of the trial.

    torch may choose another kernel if gradients are requested, so that the last digits may differ.

    Raises:
      ValueError: it gave others.
    """
    for name, output, again in zip(trial.names, trial.real_outputs, results, strict=True):
        if not _is_repeated(output, again):
            mode = "train=True, and the" if trial.train else "the"
            advice = (
                "Set its dropout to 0." if trial.train else "Does it call F.dropout without training=self.training?"
            )
            raise ValueError(
                f"{mode} torch module draws random numbers: two runs differ in {name!r}. {advice} Make other noise an "
                "input, with torch_fn=lambda module, x, noise: ..."
            )


def _is_repeated(first: np.ndarray, second: np.ndarray) -> bool:
    if first.dtype.kind != "f":
        return np.array_equal(first, second)
    size = np.max(np.abs(first), initial=0.0, where=np.isfinite(first))
    return np.allclose(first, second, rtol=0.0, atol=SAME * size, equal_nan=True)


def in_layout_of(trial: Trial, ported: Outputs) -> Trial:
    """Return the trial with its PackedSequences padded as the port returns them: batch first, or time steps first."""
    shapes = dict(zip(trial.paths, trial.shapes, strict=True))
    got = {path: tuple(leaf.shape) for path, leaf in zip(ported.paths, ported.leaves, strict=True)}
    swapped = [got.get(path) == (*shapes[path][1::-1], *shapes[path][2:]) for path in trial.packed]
    if not any(swapped) or any(got.get(path) == shapes[path] for path in trial.packed):
        return trial
    turned = [
        np.swapaxes(output, 0, 1) if path in trial.packed else output
        for path, output in zip(trial.paths, trial.outputs, strict=True)
    ]
    return replace(trial, outputs=tuple(turned), steps_first=True)


def tensors_as_in(trial: Trial, torch_fn: TorchFn) -> TorchFn:
    """Return what gives the tensors of ``torch_fn`` in order, with PackedSequences padded as in the trial."""
    return lambda *arguments, **kwargs: list(torch_outputs(torch_fn(*arguments, **kwargs), trial.steps_first).leaves)


def port_outputs(jax_fn: Callable[..., Any], problem: Problem) -> Outputs:
    """Return the outputs of a JAX function as shapes, without running it."""
    forget_arrays(jax_fn, problem)
    return jax_outputs(output_shapes(jax_fn, problem))


def ordered_port(jax_fn: Callable[..., Any], wanted: Sequence[Path], given: Sequence[Path]) -> Callable[..., Any]:
    """Return a function that gives the arrays of ``jax_fn`` in the order of torch's outputs.

    It is a new function in each check, because jax_fn may call code that was edited in between.

    Raises:
      ValueError: the two return other structures.
    """
    order = order_of(wanted, given)

    def port(*arguments: Any) -> list[Any]:
        leaves = jax.tree.leaves(jax_fn(*arguments))
        return [leaves[n] for n in order] if len(leaves) == len(order) else leaves

    return port


def trial_notes(trial: Trial) -> list[str]:
    """Return what a reader must know about the outputs."""
    packed = [name for name, path in zip(trial.names, trial.paths, strict=True) if path in trial.packed]
    layout = "time steps first" if trial.steps_first else "batch first"
    notes = [f"{name!r} is a PackedSequence in torch; it is padded with zeros, {layout}" for name in packed]
    return notes + [
        f"torch gives no gradient through {trial.names[n]!r}; the port's is not compared"
        for n in trial.outputs_without_gradient
    ]


def _seen(out: Outputs, before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> Trial:
    changed = [name for name, buffer in after.items() if name not in before or not _is_same(buffer, before[name])]
    lost = [name for name in changed if not any(_is_same(after[name], leaf) for leaf in out.leaves)]
    arrays = [canonical(leaf if leaf.layout is torch.strided else leaf.to_dense()) for leaf in out.leaves]
    without = [n for n, leaf in enumerate(out.leaves) if is_differentiable(arrays[n]) and not leaf.requires_grad]
    return Trial(
        tuple(arrays),
        out.paths,
        out.names,
        out.packed,
        tuple(changed),
        tuple(lost),
        tuple(without),
    )


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors hold the same numbers. NaN equals NaN."""
    same = a.shape == b.shape and a.dtype == b.dtype
    return same and bool(torch.all((a == b) | ((a != a) & (b != b))))
