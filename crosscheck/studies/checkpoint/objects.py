"""What the objects in a file hold: their attributes, the state dict of a torch.nn.Module, and packed weights.

torch packs weights when it quantizes a module dynamically. A pickle has ``torch.ScriptObject`` with the state
``(content, class)``. A LinearPackedParamsBase has the content ``(weight, bias, ...)``. An LSTM has
one CellParamsBase per layer and direction. It has among other things a list with two LinearPackedParamsBase, for the
inputs and for h.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from crosscheck.studies.checkpoint.pickles import Inert, Value
from crosscheck.studies.checkpoint.records import Tensor

_MODULE = ("_parameters", "_buffers", "_modules")  # attributes in which a torch.nn.Module has its state dict
_ALIASES = {"_flat_weights"}  # a second list of an nn.LSTM's parameters, in TorchScript
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_KNOWN_HOOKS = ("torch.nn.utils.weight_norm.", "torch.nn.utils.prune.", "torch.nn.utils.spectral_norm.")
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_FEW = 100  # more hooks, or more buffers that are not saved, than a module has
_PARTS = 16  # more than the content of a packed object has


def unpack(node: Inert) -> dict[str, Any] | None:
    """Return what a packed object holds, by name: "ih" and "hh", or "weight" and "bias". None for any other object."""
    if node.name != "torch.ScriptObject" or not isinstance(node.state, tuple) or len(node.state) != 2:
        return None
    content, kind = node.state
    if not isinstance(content, tuple) or not isinstance(kind, str):
        return None
    if kind.endswith("LinearPackedParamsBase"):
        parts = dict(zip(("weight", "bias"), content, strict=False))
        return {name: tensor for name, tensor in parts.items() if isinstance(tensor, Tensor)}
    if kind.endswith("CellParamsBase"):
        pairs = [part for part in content[:_PARTS] if isinstance(part, (list, tuple)) and len(part) == 2]
        packed = next((pair for pair in pairs if all(isinstance(item, Inert) for item in pair)), ())
        return dict(zip(("ih", "hh"), packed, strict=False))
    return None


def children_of(node: Value) -> Iterator[tuple[Any, Value]]:
    """Yield what a container holds, by key. An object holds its attributes and the arguments of its class.

    What does not count is None, and not left out, so that the caller can count all that was looked at.
    """
    if isinstance(node, dict):
        yield from node.items()
    elif not isinstance(node, Inert):
        yield from enumerate(node)
    elif (parts := unpack(node)) is not None:
        yield from parts.items()
    elif _is_module(node):
        temporary = node.state.get("_non_persistent_buffers_set")
        names = temporary[:_FEW] if isinstance(temporary, list) else []
        left_out = {name for name in names if isinstance(name, str)}
        for part in _MODULE:
            yield from ((key, None if key in left_out else value) for key, value in node.state[part].items())
        for key, value in node.state.items():
            yield key, value if isinstance(value, Inert) and unpack(value) else None
    else:
        if node.args:
            yield "args", node.args
        if isinstance(node.state, dict):
            yield from ((key, None if key in _ALIASES else value) for key, value in node.state.items())
        elif isinstance(node.state, (list, tuple)):  # attributes and slots, or whatever a class defines as its state
            for number, part in enumerate(node.state):
                yield from part.items() if isinstance(part, dict) else [(f"state.{number}", part)]
        yield from node.entries.items()
        yield from enumerate(node.items)


def _is_module(node: Inert) -> bool:
    return isinstance(node.state, dict) and all(isinstance(node.state.get(name), dict) for name in _MODULE)


def module_class(node: Value) -> str:
    """Return the class of a torch.nn.Module, also of one in TorchScript; "" for any other container."""
    if not isinstance(node, Inert):
        return ""
    if _is_module(node):
        named = [hooks for name in _HOOKS if isinstance(hooks := node.state.get(name), dict)]
        hooks = [hook for hooks in named for hook in islice(hooks.values(), _FEW)]
        known = all(isinstance(hook, Inert) and hook.name.startswith(_KNOWN_HOOKS) for hook in hooks)
        return node.name if known and len(hooks) < _FEW else f"{node.name} with a hook"
    return _MANGLED.sub("", node.name.removeprefix("__torch__.")) if node.name.startswith("__torch__.") else ""
