"""Runs a torch module on a problem: a copy computes with its values, and torch.autograd.grad gives the gradients."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import jax
import ml_dtypes
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from crosscheck.core.errors import first_line
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.inside.torch_modes import stacked
from crosscheck.core.module_copy import KINDS, Kinds, ModuleCopy, copy_module
from crosscheck.core.problem import Gradient, Problem, Results, canonical, is_static, real_pairs
from crosscheck.core.structure import torch_outputs
from crosscheck.core.torch_errors import is_about_dtypes

TorchFn = Callable[..., Any]
LONG = 10_000
_KNOWN_WARNINGS = ("TF32 acceleration on top of oneDNN", "LSTM with projections is not supported with oneDNN")


def call_module(module: torch.nn.Module, *inputs: Any, **kwargs: Any) -> Any:
    """Return ``module(*inputs, **kwargs)``.

    Raises:
      CouldNotRun: TorchScript gave the module no forward.
    """
    if isinstance(module, torch.jit.ScriptModule) and not hasattr(module, "forward"):
        raise CouldNotRun(
            "TorchScript gives this module no forward, as it does to torch.nn.LSTM. "
            "Script a module whose forward calls it, or give the module before scripting."
        )
    return module(*inputs, **kwargs)


def run_torch(
    module: torch.nn.Module,
    problem: Problem,
    dtype: str,
    *,
    torch_fn: TorchFn = call_module,
    kwargs: Mapping[str, Any] | None = None,
    buffers: Mapping[str, np.ndarray] | None = None,
    train: bool = False,
    onednn: bool = True,
    unused: list[str] | None = None,
    modes: Sequence[TorchDispatchMode] = (),
    move: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Results:
    """Run a torch module on a problem.

    A gradient with respect to a complex number z is torch's: dL/d(Re z) + i dL/d(Im z), the conjugate of JAX's. A
    Hessian-vector product is the gradient of the sum of gradient times tangent, with separate real and imaginary parts.

    Args:
      module: the module. A deep copy of it runs.
      problem: the problem.
      dtype: the dtype of all floating-point numbers: "float64", "float32", "float16" or "bfloat16".
      torch_fn: called as ``torch_fn(module, *inputs, **kwargs)``.
      kwargs: keyword arguments. Arrays among them become tensors.
      buffers: arrays that replace buffers of these names.
      train: run in train mode.
      onednn: False takes torch's native CPU kernels. Hessian-vector products always do.
      unused: receives the names whose gradient torch gives as None. They count as zero.
      modes: dispatch modes under which everything is computed. The last one sees an operation first.
      move: moves the module's own constants: buffers that are not given, and other tensors that are no parameters.

    Returns:
      Outputs, then gradients, then Hessian-vector products, as NumPy in the dtype that torch gave. bfloat16 is that of
      ml_dtypes. Complex arrays are real ones with a last axis of two: real, imaginary.

    Raises:
      CouldNotRun: the module cannot run in this dtype.
    """
    kinds = KINDS[dtype]
    native = not onednn or bool(problem.tangents)  # oneDNN's operations have no second derivatives
    with full_precision(), torch.backends.mkldnn.flags(enabled=not native):
        copied = copy_module(module, kinds, train)
        copied.write(problem.params, buffers or {}, kinds)
        if move is not None:
            copied.move_constants(move, buffers or {})
        copied.require_gradients(problem.wrt)
        attention = sdpa_kernel(SDPBackend.MATH) if problem.tangents else nullcontext()  # the others have no second one
        with attention, stacked(modes):
            result = _run(copied, problem, kinds, torch_fn, kwargs or {}, unused)
    if problem.steps >= LONG:
        _give_memory_back()
    return result


def _give_memory_back() -> None:
    """Return freed memory to the system. The graph of a long sequence is many small blocks, which glibc keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _run(
    copied: ModuleCopy,
    problem: Problem,
    kinds: Kinds,
    torch_fn: TorchFn,
    kwargs: Mapping[str, Any],
    unused: list[str] | None,
) -> Results:
    inputs = {name: _input(a, kinds, name in problem.wrt) for name, a in problem.input_leaves.items()}
    fresh = [a.clone() if isinstance(a, torch.Tensor) else a for a in inputs.values()]  # it may change them in place
    with _users_code(kinds):
        out = torch_fn(copied.module, *problem.with_leaves(fresh), **_keywords(kwargs, kinds))
    outputs = torch_outputs(out).leaves
    if len(outputs) != len(problem.output_names):
        raise CouldNotRun(f"the torch module returned {len(outputs)} tensors, expected {problem.output_names}.")
    result: Results = {name: _numpy(o) for name, o in zip(problem.output_names, outputs, strict=True)}
    cotangents = [torch.tensor(np.asarray(c)).to(o.dtype) for o, c in zip(outputs, problem.cotangents, strict=True)]
    pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    leaves = {name: copied.parameters.get(name) or (inputs[name],) for name in problem.wrt}
    with _users_code(kinds):
        gradients = _gradients(pairs, leaves, create_graph=bool(problem.tangents))
    for name, gradient in gradients.items():
        if gradient is None and unused is not None and name not in unused:
            unused.append(name)
        result[Gradient(name)] = _numpy(torch.zeros_like(leaves[name][0]) if gradient is None else gradient)
    if problem.tangents:
        result |= _hessian_vector_products(gradients, leaves, problem, kinds)
    return result


Pairs: TypeAlias = Sequence[tuple[torch.Tensor, torch.Tensor]]  # outputs and cotangents
Leaves: TypeAlias = Mapping[str, tuple[torch.Tensor, ...]]  # by name in wrt


def _gradients(pairs: Pairs, leaves: Leaves, create_graph: bool = False) -> dict[str, torch.Tensor | None]:
    """Return gradients by name. None says that no output depends on the leaf."""
    flat = [leaf for several in leaves.values() for leaf in several]
    found: tuple[torch.Tensor | None, ...] = (None,) * len(flat)
    if pairs and flat:
        roots, cotangents = zip(*pairs, strict=True)
        found = torch.autograd.grad(roots, flat, cotangents, allow_unused=True, create_graph=create_graph)
    remaining, result = iter(found), dict[str, torch.Tensor | None]()
    for name, several in leaves.items():
        parts = [part for part in (next(remaining) for _ in several) if part is not None]
        result[name] = sum(parts[1:], start=parts[0]) if parts else None
    return result


def _hessian_vector_products(
    gradients: Mapping[str, torch.Tensor | None], leaves: Leaves, problem: Problem, kinds: Kinds
) -> Results:
    """Return the gradients of the sum of gradients times tangents."""
    pairs = [
        (gradient, kinds.tensor(problem.tangents[name]).to(gradient.dtype))
        for name, gradient in gradients.items()
        if gradient is not None and gradient.requires_grad
    ]
    if any(_has_no_derivative(gradient) for gradient, _ in pairs):
        raise CouldNotRun(
            "torch cannot differentiate the module twice: one of its operations has no second derivative."
        )
    with _users_code(kinds):
        products = _gradients(pairs, leaves)
    zeros = {name: torch.zeros_like(several[0]) for name, several in leaves.items()}
    return {Gradient(name, 2): _numpy(zeros[name] if p is None else p) for name, p in products.items()}


def _has_no_derivative(tensor: torch.Tensor) -> bool:
    """Return whether the graph of a tensor has an operation without a derivative.

    autograd raises only if a leaf is behind it in the graph. Behind a function that is once_differentiable there is no
    leaf, and the gradient would be None without an error.
    """
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith(("::Error", "NotImplemented")):
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _input(a: Any, kinds: Kinds, requires_grad: bool) -> Any:
    return a if is_static(a) else kinds.tensor(a).requires_grad_(requires_grad)


def _keywords(kwargs: Mapping[str, Any], kinds: Kinds) -> dict[str, Any]:
    """Return keyword arguments with tensors of the run in place of arrays."""

    def convert(value: Any) -> Any:
        is_array = isinstance(value, np.ndarray | jax.Array | torch.Tensor)
        return kinds.tensor(canonical(value)) if is_array else value

    return {name: jax.tree.map(convert, value) for name, value in kwargs.items()}


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a result as NumPy in its own dtype, complex numbers as pairs of real ones."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.layout is not torch.strided:  # such as the gradient of a sparse embedding
        tensor = tensor.to_dense()
    if tensor.dtype is torch.bfloat16:
        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return real_pairs(tensor.numpy())


@contextmanager
def _users_code(kinds: Kinds) -> Iterator[None]:
    """Add a note to an error of the user's code. If it is about dtypes, say that the module cannot run in this one."""
    try:
        yield
    except CouldNotRun:
        raise
    except Exception as error:
        if is_about_dtypes(error):
            advice = " Does it make tensors of a fixed dtype? Write x.new_zeros(...) for torch.zeros(...)."
            raise CouldNotRun(
                f"the torch module could not run in {kinds.name}: {first_line(error)}.{advice}"
            ) from error
        error.add_note(f"raised inside the torch module, in the {kinds.name} check")
        raise


@contextmanager
def flushed_subnormals() -> Iterator[None]:
    """Let torch treat numbers below the smallest normal number as zero, as XLA does, if the processor can."""
    smallest = torch.tensor([2.0**-140], dtype=torch.float32, device="cpu")
    before = bool((smallest * 1.0 == 0).all())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn TF32 off and gradients on, and use one thread. A second thread only waits in the products of a time step."""
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
