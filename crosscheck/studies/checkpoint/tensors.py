"""The content of a torch file as named NumPy arrays: nested containers flattened, every dtype kept."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crosscheck.studies.checkpoint.errors import BadFile, printable
from crosscheck.studies.checkpoint.flat import Checkpoint
from crosscheck.studies.checkpoint.pickles import Global, Inert
from crosscheck.studies.checkpoint.quantized import unpacked
from crosscheck.studies.checkpoint.records import PickledArray, Scheme, Tensor
from crosscheck.studies.checkpoint.torch_files import Content

DEPTH, STEPS, CHARACTERS = 100, 1_000_000, 2**27  # of names: how deep, how many, and how long all together
HELD = 200_000  # containers of more than plain values
STRETCHED, COPIED = 2**24, 2**28  # elements of a tensor that its storage does not have; bytes of all that is converted
_MODEL_ONLY = "Save the weights of one model only, such as model.state_dict()"
_CONTAINERS = (dict, list, tuple, Inert)
_LEAVES = (Tensor, PickledArray)
_TOLD = (*_LEAVES, *_CONTAINERS, Global)
_MODULE = ("_parameters", "_buffers", "_modules")  # where a torch.nn.Module keeps what its state dict has
_ALIASES = {"_flat_weights"}  # a list of an nn.LSTM's parameters once more, in TorchScript
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_KNOWN_HOOKS = ("torch.nn.utils.weight_norm.", "torch.nn.utils.prune.", "torch.nn.utils.spectral_norm.")
_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_PLACE = 200  # letters of a name, and objects of different classes, that are told
_DTYPE = re.compile(r"torch\.[a-z0-9_]+")  # and layouts, quantization schemes: constants

Name = tuple[Any, ...]


def flatten(path: Path, content: Content) -> Checkpoint:
    """Return the tensors of nested containers and objects by dotted name, in order.

    An object counts as the container of its attributes, whatever its class, and a torch.nn.Module as its state dict.

    Raises:
      BadFile: the containers are too deep or too many to be a checkpoint's, or two tensors would have one name.
    """
    tree = _Tree(path, content.value)
    flat = Checkpoint(skipped=tree.skipped)
    room = COPIED
    characters = 0
    leaves: dict[str, Any] = {}
    for names, leaf, holder in tree.leaves():
        name = ".".join(map(str, names))
        characters += len(name)
        if characters > CHARACTERS:
            raise BadFile(path, f"its names have over {CHARACTERS:,} letters", _MODEL_ONLY)
        if leaves.setdefault(name, leaf) is not leaf:
            raise BadFile(path, f"it has two tensors called {name!r}", _MODEL_ONLY)
        array = leaf.array if isinstance(leaf, PickledArray) else _view(path, name, leaf)
        if array is None:
            flat.skipped.setdefault(f"numpy.ndarray of {leaf.kind}", name)
            continue
        if holder:
            flat.holders[name] = holder
        scheme = getattr(leaf, "scheme", None)
        swap = content.is_big_endian if isinstance(leaf, Tensor) else array.dtype.byteorder == ">"
        if scheme or swap or getattr(leaf, "conj", False) or getattr(leaf, "neg", False):
            room -= 8 * array.size
            if room < 0:
                raise BadFile(path, f"its tensors take over {COPIED:,} bytes to convert", _MODEL_ONLY)
            array = _converted(array, leaf, swap)
        if scheme:
            flat.notes[name] = f"dequantized from {leaf.storage.dtype}"
        flat.arrays[name] = array
    return flat


def _view(path: Path, name: str, tensor: Tensor) -> np.ndarray:
    """The tensor's window on the bytes of the file."""
    dtype = tensor.storage.dtype
    if not tensor.elements:
        return np.zeros(tensor.shape, dtype)
    if tensor.elements > max(STRETCHED, tensor.storage.count):
        wrong = f"its tensor {printable(name)!r} is one of few numbers stretched to shape {tensor.shape}"
        raise BadFile(path, wrong, "Save it with .contiguous(), or leave it out")
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    return np.ndarray(tensor.shape, dtype, tensor.storage.fetch(), tensor.offset * dtype.itemsize, strides)


def _converted(array: np.ndarray, leaf: Any, swap: bool) -> np.ndarray:
    if swap:
        array = array.byteswap()
        array = array.view(array.dtype.newbyteorder("=")) if array.dtype.byteorder == ">" else array
    if isinstance(leaf, Tensor):
        array = -array if leaf.neg else array
        array = array.conj() if leaf.conj else array
        array = _dequantized(array, leaf.scheme, swap) if leaf.scheme else array
    return array


def _dequantized(integers: np.ndarray, scheme: Scheme, swap: bool) -> np.ndarray:
    """As ``torch.dequantize``: per channel the scales are float64, and per tensor the scale is rounded to float32."""
    scale, zero = scheme.scale, scheme.zero_point
    if scheme.axis is not None:
        shape = [-1 if axis == scheme.axis else 1 for axis in range(integers.ndim)]
        views = [_view(Path(), "scale or zero_point", value) for value in (scale, zero)]
        scale, zero = ((a.byteswap() if swap else a).reshape(shape) for a in views)
        return ((integers.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
    return (integers.astype(np.int64) - zero).astype(np.float32) * np.float32(scale)


def _children(node: Any) -> Sequence[tuple[Any, Any]]:
    """What a container holds, by key. An object holds its attributes, and what it would be made of."""
    if isinstance(node, dict):
        return list(node.items())
    if not isinstance(node, Inert):
        return list(enumerate(node))
    if (parts := unpacked(node)) is not None:
        return list(parts.items())
    state = node.state
    attributes = [pair for pair in state.items() if pair[0] not in _ALIASES] if isinstance(state, dict) else []
    if _is_module(node):
        packed = [(key, value) for key, value in attributes if isinstance(value, Inert) and unpacked(value)]
        temporary = state.get("_non_persistent_buffers_set")
        left_out = {name for name in temporary if isinstance(name, str)} if isinstance(temporary, list) else set()
        own = [pair for name in _MODULE for pair in state[name].items() if pair[0] not in left_out]
        return [*own, *packed]
    made_of = [("args", node.args)] if node.args else []
    held = attributes
    if isinstance(state, (list, tuple)):  # attributes, and those in slots; or what a class gives as its state
        held = []
        for number, part in enumerate(state):
            held += part.items() if isinstance(part, dict) else [(f"state.{number}", part)]
    return [*made_of, *held, *node.entries.items(), *enumerate(node.items)]


def _is_module(node: Inert) -> bool:
    return isinstance(node.state, dict) and all(isinstance(node.state.get(name), dict) for name in _MODULE)


def _holder(node: Any) -> str:
    """The class of a torch.nn.Module, of a TorchScript one too; "" for any other container."""
    if not isinstance(node, Inert):
        return ""
    if _is_module(node):
        hooks = [hook for name in _HOOKS if isinstance(hooks := node.state.get(name), dict) for hook in hooks.values()]
        own = any(not isinstance(hook, Inert) or not hook.name.startswith(_KNOWN_HOOKS) for hook in hooks)
        return f"{node.name} with a hook" if own else node.name
    return _MANGLED.sub("", node.name.removeprefix("__torch__.")) if node.name.startswith("__torch__.") else ""


class _Tree:
    """The containers of a file, each one once however often it is held, with those children that lead to a tensor."""

    def __init__(self, path: Path, root: Any):
        self.path, self.root = path, root
        self.children: dict[int, list[tuple[Any, Any]]] = {}
        self.skipped: dict[str, str] = {}
        above: dict[int, tuple[int, Any]] = {}  # where each was met first
        holders: dict[int, list[int]] = {id(root): []}
        matters: dict[int, bool] = {}
        tensors = [id(root)] if isinstance(root, _LEAVES) else []
        waiting = deque([root])
        while waiting:
            node = waiting.popleft()
            self._note(node, above)
            if not isinstance(node, _CONTAINERS) or id(node) in self.children:
                continue
            if len(self.children) == HELD:
                raise BadFile(path, f"it has over {HELD:,} lists, dicts and objects in one another", _MODEL_ONLY)
            self.children[id(node)] = found = [(k, child) for k, child in _children(node) if _matters(child, matters)]
            for key, child in found:
                if id(child) not in holders:
                    above[id(child)] = id(node), key
                    waiting.append(child)
                    tensors += [id(child)] * isinstance(child, _LEAVES)
                holders.setdefault(id(child), []).append(id(node))
        self._drop_barren(tensors, holders)

    def _note(self, node: Any, above: dict[int, tuple[int, Any]]) -> None:
        if not isinstance(node, (Inert, Global)) or node.name in self.skipped or _DTYPE.fullmatch(node.name):
            return
        if len(self.skipped) == _PLACE:
            return
        if isinstance(node, Inert) and unpacked(node):
            return
        names: list[str] = []
        place = id(node)
        while place in above and len(names) < DEPTH:
            place, key = above[place]
            names.append(key[:_PLACE] if isinstance(key, str) else str(key)[:_PLACE])
        self.skipped[node.name] = ".".join(reversed(names))

    def _drop_barren(self, tensors: list[int], holders: dict[int, list[int]]) -> None:
        fertile: set[int] = set()
        while tensors:
            node = tensors.pop()
            if node not in fertile:
                fertile.add(node)
                tensors += holders.get(node, [])
        self.children = {
            node: [(key, child) for key, child in found if id(child) in fertile]
            for node, found in self.children.items()
            if node in fertile
        }

    def leaves(self) -> Iterator[tuple[Name, Any, str]]:
        """Name, leaf and the class of the module that has it, depth first and without recursion.

        What holds itself is not entered again.
        """
        levels: list[tuple[Any, Iterator[tuple[Name, Any]]]] = [(None, iter([((), self.root)]))]
        entered: set[int] = set()
        for _ in range(STEPS):
            place, entries = levels[-1]
            names, node = next(entries, (None, None))
            if names is None:
                levels.pop()
                entered.discard(id(place))
                if not levels:
                    return
            elif isinstance(node, _LEAVES):
                yield names, node, _holder(place)
            elif len(names) >= DEPTH:
                raise BadFile(self.path, f"it is nested over {DEPTH} deep", _MODEL_ONLY)
            elif id(node) not in entered:
                entered.add(id(node))
                levels.append((node, self._below(names, node)))
        raise BadFile(self.path, f"it has over {STEPS:,} entries", _MODEL_ONLY)

    def _below(self, names: Name, node: Any) -> Iterator[tuple[Name, Any]]:
        return (((*names, key), child) for key, child in self.children.get(id(node), ()))


def _matters(child: Any, known: dict[int, bool]) -> bool:
    """Whether a child is, or may hold, an array or an object. A list of numbers is passed over here, for speed.

    ``known`` has the answers for containers by id: a file may hold one of them a million times.
    """
    if not isinstance(child, (list, tuple, dict)):
        return isinstance(child, _TOLD)
    if id(child) not in known:
        items = child.values() if isinstance(child, dict) else child
        known[id(child)] = any(isinstance(item, _TOLD) for item in items)
    return known[id(child)]
