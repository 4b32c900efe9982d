"""A copy of a torch module that computes with given values in a given dtype, and whose own parameters are leaves.

The values are written into the parameters of the copy, so that TorchScript, tied parameters, parametrizations and the
flat weights of nn.LSTM read them. The user's module does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from crosscheck.core.errors import first_line
from crosscheck.core.finding import CouldNotRun

_ATOMS = (type, ModuleType, FunctionType, BuiltinFunctionType)  # deepcopy does not copy them


@dataclass(frozen=True)
class Kinds:
    """The dtypes of a run.

    Attributes:
      name: the name of the dtype.
      real: the dtype of floating-point numbers.
      complex: the dtype of complex numbers with parts of that precision; None if torch cannot compute with any.
    """

    name: str
    real: torch.dtype
    complex: torch.dtype | None

    def of(self, tensor: torch.Tensor) -> torch.dtype:
        """Return the dtype of a tensor in this run. Integers and bools keep theirs.

        Raises:
          CouldNotRun: the tensor is complex, and there are no complex numbers of this precision.
        """
        if tensor.is_complex():
            if self.complex is None:
                raise CouldNotRun(f"there are no complex numbers in {self.name}.")
            return self.complex
        return self.real if tensor.is_floating_point() else tensor.dtype

    def tensor(self, a: Any) -> torch.Tensor:
        """Return a new tensor of this run."""
        tensor = torch.tensor(np.asarray(a))
        return tensor.to(self.of(tensor))


KINDS = {
    kinds.name: kinds
    for kinds in (
        Kinds("float64", torch.float64, torch.complex128),
        Kinds("float32", torch.float32, torch.complex64),
        Kinds("float16", torch.float16, None),
        Kinds("bfloat16", torch.bfloat16, None),
    )
}


@dataclass(frozen=True)
class ModuleCopy:
    """A copy of a module.

    Attributes:
      module: the copy.
      parameters: the leaves of each parameter by name. There is one leaf, except for a parameter that is tied between
        a TorchScript module and its surroundings: these are copied separately.
      constants: buffers and other floating-point tensors of the copy that are no parameters.
    """

    module: torch.nn.Module
    parameters: Mapping[str, tuple[torch.Tensor, ...]]
    constants: tuple[torch.Tensor, ...] = ()

    def write(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray], kinds: Kinds) -> None:
        """Write values into the parameters and buffers of these names."""
        own = dict(self.module.named_buffers())
        for name, value in params.items():
            for leaf in self.parameters[name]:
                leaf.data = kinds.tensor(value)
        for name, value in buffers.items():
            own[name].data = kinds.tensor(value).to(own[name].dtype)

    def move_constants(self, move: Callable[[np.ndarray], np.ndarray], given: Collection[str]) -> None:
        """Replace the numbers of all constants but the buffers of the given names."""
        own = dict(self.module.named_buffers())
        kept = {id(own[name]) for name in given}
        for tensor in self.constants:
            if id(tensor) not in kept:
                tensor.data = torch.tensor(move(tensor.numpy(force=True))).to(tensor.dtype)

    def require_gradients(self, names: tuple[str, ...]) -> None:
        """Require gradients of the parameters of these names, and of no others."""
        for name, leaves in self.parameters.items():
            for leaf in leaves:
                leaf.requires_grad_(name in names)


def copy_module(module: torch.nn.Module, kinds: Kinds, train: bool) -> ModuleCopy:
    """Return a deep copy on the CPU whose floating-point and complex tensors have the dtypes of a run.

    Tensors that are no leaves, such as a hidden state kept from an earlier call, become detached clones.

    Raises:
      CouldNotRun: the module cannot be copied.
    """
    originals = _tensors_in(module)
    copied = _deepcopy(module, originals)
    shared = {id(tensor) for tensor in originals}
    own = [tensor for tensor in _tensors_in(copied) if id(tensor) not in shared]
    for tensor in {id(t): t for t in (*own, *copied.parameters(), *copied.buffers())}.values():
        tensor.grad = None
        tensor.data = tensor.data.to("cpu", kinds.of(tensor))
    parameters = {id(parameter) for parameter in copied.parameters()}
    others = {id(t): t for t in (*own, *copied.buffers()) if id(t) not in parameters}
    constants = tuple(t for t in others.values() if t.is_floating_point())
    return ModuleCopy(copied.train(train), _leaves_by_name(module, copied), constants)


def _deepcopy(module: torch.nn.Module, tensors: list[torch.Tensor]) -> torch.nn.Module:
    kept = [tensor for tensor in tensors if not tensor.is_leaf]
    own = {_storage(parameter) for parameter in module.parameters()}
    if any(_storage(tensor) in own for tensor in kept):
        raise CouldNotRun(
            "the torch module keeps a view of a parameter, which no other values can be given. Take it in its forward."
        )
    memo = {id(tensor): tensor.detach().clone() for tensor in kept}
    try:
        with torch.no_grad():  # else TorchScript's parameters are copied as results of a clone, which are no leaves
            return copy.deepcopy(module, memo)
    except Exception as error:
        raise CouldNotRun(f"the torch module cannot be copied: {first_line(error)}") from error


def _storage(tensor: torch.Tensor) -> int:
    """Return what tells whether two tensors lie in the same memory."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def _leaves_by_name(module: torch.nn.Module, copied: torch.nn.Module) -> dict[str, tuple[torch.Tensor, ...]]:
    """Return the copies of each parameter under the first of its names."""
    copies = dict(copied.named_parameters(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {tied[0]: tuple({id(copies[name]): copies[name] for name in tied}.values()) for tied in names.values()}


def _tensors_in(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return the tensors that deepcopy meets: in attributes, tuples, lists, sets and dicts."""
    found: list[torch.Tensor] = []
    seen: dict[int, Any] = {}  # it keeps objects alive, so that no identity is given twice
    waiting: list[Any] = [module]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _ATOMS):
            continue
        seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, tuple | list | set | frozenset):
            waiting += value
        elif isinstance(value, MethodType):
            waiting.append(value.__self__)
        waiting += vars(value).values() if hasattr(value, "__dict__") and not isinstance(value, MethodType) else ()
    return found
