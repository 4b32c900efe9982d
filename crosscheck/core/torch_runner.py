"""Runs a torch module on a problem: functional_call on a deep copy, and gradients by torch.autograd.grad."""

from __future__ import annotations

import copy
import ctypes
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import torch

from crosscheck.core.errors import first_line
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Gradient, Problem, Results

TorchFn = Callable[..., Any]
LONG = 10_000
_KNOWN_WARNINGS = ("TF32 acceleration on top of oneDNN", "LSTM with projections is not supported with oneDNN")


def call_module(module: torch.nn.Module, *inputs: Any) -> Any:
    """Return ``module(*inputs)``."""
    return module(*inputs)


def tensor_leaves(out: Any) -> list[torch.Tensor]:
    """Return the tensors of what a module returns, in the order in which JAX flattens the same structure.

    Raises:
      TypeError: there is a leaf that is no tensor.
    """
    leaves = jax.tree.leaves(out)
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(
                f"the torch module must return tensors in tuples, lists or dicts; got a {type(leaf).__name__}. "
                "Unpack it with torch_fn=lambda module, *inputs: ..."
            )
    return leaves


class _Adapter(torch.nn.Module):
    """A module whose forward is ``torch_fn``, for functional_call."""

    def __init__(self, module: torch.nn.Module, torch_fn: TorchFn) -> None:
        super().__init__()
        self.module, self.torch_fn = module, torch_fn

    def forward(self, *inputs: Any) -> Any:
        return self.torch_fn(self.module, *inputs)


def run_torch(
    module: torch.nn.Module,
    problem: Problem,
    dtype: str,
    *,
    torch_fn: TorchFn = call_module,
    buffers: Mapping[str, np.ndarray] | None = None,
    train: bool = False,
    onednn: bool = True,
    unused: list[str] | None = None,
) -> Results:
    """Run a torch module on a problem.

    Args:
      module: the module. A deep copy of it runs.
      problem: the problem.
      dtype: of everything that is floating point.
      torch_fn: called as ``torch_fn(module, *inputs)``.
      buffers: arrays that replace buffers of these names.
      train: run in train mode.
      onednn: False takes torch's native CPU kernels.
      unused: receives the names whose gradient torch gives as None. They count as zero.

    Returns:
      Outputs, then gradients, as NumPy.

    Raises:
      CouldNotRun: the module cannot run so.
    """
    with full_precision(), torch.backends.mkldnn.flags(enabled=onednn), _could_not_run(dtype):
        adapter = _Adapter(copy.deepcopy(module), torch_fn).to("cpu", getattr(torch, dtype)).train(train)
        result = _run(adapter, problem, getattr(torch, dtype), buffers or {}, unused)
    if problem.steps >= LONG:
        _give_memory_back()
    return result


def _give_memory_back() -> None:
    """Return freed memory to the system. The graph of a long sequence is many small blocks, which glibc keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _run(
    adapter: _Adapter,
    problem: Problem,
    kind: torch.dtype,
    buffers: Mapping[str, np.ndarray],
    unused: list[str] | None,
) -> Results:
    params = {name: _tensor(a, kind, name in problem.wrt) for name, a in problem.params.items()}
    inputs = {name: _tensor(a, kind, name in problem.wrt) for name, a in problem.input_leaves.items()}
    state = {f"module.{name}": a for name, a in params.items()}
    state |= {f"module.{name}": _tensor(a, kind, False) for name, a in buffers.items()}
    fresh = [a.clone() for a in inputs.values()]  # the module may change them in place
    outputs = tensor_leaves(torch.func.functional_call(adapter, state, problem.with_leaves(fresh)))
    if len(outputs) != len(problem.output_names):
        raise CouldNotRun(f"the torch module returned {len(outputs)} tensors, expected {problem.output_names}.")
    result: Results = {name: o.detach().numpy() for name, o in zip(problem.output_names, outputs, strict=True)}
    leaves = [params[name] if name in params else inputs[name] for name in problem.wrt]
    pairs = [(o, _tensor(c, o.dtype, False)) for o, c in zip(outputs, problem.cotangents, strict=True)]
    pairs = [(o, c) for o, c in pairs if o.requires_grad]
    gradients: tuple[torch.Tensor | None, ...] = (None,) * len(leaves)
    if pairs and leaves:
        roots, cotangents = zip(*pairs, strict=True)
        gradients = torch.autograd.grad(roots, leaves, cotangents, allow_unused=True)
    for name, leaf, gradient in zip(problem.wrt, leaves, gradients, strict=True):
        if gradient is None and unused is not None and name not in unused:
            unused.append(name)
        result[Gradient(name)] = (torch.zeros_like(leaf) if gradient is None else gradient).detach().numpy()
    return result


@contextmanager
def _could_not_run(dtype: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        advice = ""
        if "dtype" in str(error) or "Double" in str(error):
            advice = " Does it make tensors of a fixed dtype? Write x.new_zeros(...) for torch.zeros(...)."
        raise CouldNotRun(f"the torch module could not run in {dtype}: {first_line(error)}.{advice}") from error


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn TF32 off and gradients on, and use one thread: for the products of a time step a second one only waits."""
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    threads = torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
            for text in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_num_threads(threads)


def _tensor(a: Any, kind: torch.dtype, requires_grad: bool) -> torch.Tensor:
    tensor = torch.tensor(np.asarray(a))
    return tensor.to(kind).requires_grad_(requires_grad) if tensor.is_floating_point() else tensor
