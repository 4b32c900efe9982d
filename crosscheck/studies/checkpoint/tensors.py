"""The content of a torch file as named NumPy arrays. Nested containers are flattened, and every dtype is kept."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from crosscheck.studies.checkpoint.budget import OPCODES
from crosscheck.studies.checkpoint.contents import Checkpoint
from crosscheck.studies.checkpoint.errors import BadFile, printable
from crosscheck.studies.checkpoint.objects import children_of, module_class, unpack
from crosscheck.studies.checkpoint.pickles import Global, Inert, Value
from crosscheck.studies.checkpoint.records import PickledArray, Scheme, Tensor

DEPTH, STEPS, CHARACTERS = 100, 1_000_000, 2**27  # limits of names: depth, number, and letters of all together
MOST_CONTAINERS = 200_000  # containers that hold more than plain values
MOST_ENTRIES = OPCODES  # limit of all containers: an honest file takes an opcode or more for each
STRETCHED, COPIED = 2**24, 2**28  # elements of a tensor that its storage does not have; bytes of converted tensors
_MODEL_ONLY = "Save the weights of one model only, such as model.state_dict()"
_CONTAINERS = (dict, list, tuple, Inert)
_LEAVES = (Tensor, PickledArray)
_NOT_PLAIN = (*_LEAVES, *_CONTAINERS, Global)
_PLACE = 200  # letters of a name, and classes of objects, that are reported
_CONSTANT = re.compile(r"torch\.[a-z0-9_]+")  # dtypes, layouts and quantization schemes

Name: TypeAlias = tuple[Any, ...]
Leaf: TypeAlias = Tensor | PickledArray


def flatten(path: Path, root: Value) -> Checkpoint:
    """Return the tensors of nested containers and objects by dotted name, in order.

    An object of any class is read as the container of its attributes, and a torch.nn.Module as its state dict.

    Raises:
      BadFile: the containers are too deep or too many to be a checkpoint's, or two tensors would have one name.
    """
    tree = _Tree(path, root)
    checkpoint = Checkpoint(skipped=tree.skipped)
    room, characters = COPIED, CHARACTERS
    leaves: dict[str, Leaf] = {}
    for names, leaf, holder in tree.leaves():
        name = ".".join(map(str, names))
        characters -= len(name)
        if characters < 0:
            raise BadFile(path, f"its names have over {CHARACTERS:,} letters", _MODEL_ONLY)
        if leaves.setdefault(name, leaf) is not leaf:
            raise BadFile(path, f"it has two tensors called {name!r}", _MODEL_ONLY)
        if isinstance(leaf, Tensor):
            array = _view(path, name, leaf)
            if leaf.scheme:
                checkpoint.notes[name] = f"dequantized from {leaf.storage.dtype}"
        elif leaf.array is None:
            checkpoint.skipped.setdefault(f"numpy.ndarray of {leaf.kind}", name)
            continue
        else:
            array = leaf.array
        if holder:
            checkpoint.holders[name] = holder
        if leaf.is_converted:
            room -= 8 * array.size
            if room < 0:
                raise BadFile(path, f"its tensors take over {COPIED:,} bytes to convert", _MODEL_ONLY)
            array = _convert(path, name, leaf, array)
        checkpoint.arrays[name] = array
    return checkpoint


def _view(path: Path, name: str, tensor: Tensor) -> np.ndarray:
    """Return a tensor as a window on the bytes of the file."""
    dtype = tensor.storage.dtype
    if not tensor.elements:
        return np.zeros(tensor.shape, dtype)
    if tensor.elements > max(STRETCHED, tensor.storage.count):
        wrong = f"its tensor {printable(name)!r} is one of few numbers stretched to shape {tensor.shape}"
        raise BadFile(path, wrong, "Save it with .contiguous(), or leave it out")
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    return np.ndarray(tensor.shape, dtype, tensor.storage.fetch(), tensor.offset * dtype.itemsize, strides)


def _convert(path: Path, name: str, leaf: Leaf, array: np.ndarray) -> np.ndarray:
    if isinstance(leaf, PickledArray):
        return array.astype(array.dtype.newbyteorder("="))
    array = array.byteswap() if leaf.storage.is_big_endian else array
    array = -array if leaf.neg else array
    array = array.conj() if leaf.conj else array
    return _dequantize(path, name, leaf.scheme, array) if leaf.scheme else array


def _dequantize(path: Path, name: str, scheme: Scheme, integers: np.ndarray) -> np.ndarray:
    """Return what ``torch.dequantize`` does: scales per channel are float64; one per tensor is rounded to float32."""
    scale, zero = scheme.scale, scheme.zero_point
    if scheme.axis is not None:
        shape = [-1 if axis == scheme.axis else 1 for axis in range(integers.ndim)]
        views = [(_view(path, name, value), value.storage.is_big_endian) for value in (scale, zero)]
        scale, zero = ((array.byteswap() if swap else array).reshape(shape) for array, swap in views)
        return ((integers.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
    return (integers.astype(np.int64) - zero).astype(np.float32) * np.float32(scale)


class _Tree:
    """The containers of a file that lead to a tensor, with the children that do. Each container is here only once."""

    def __init__(self, path: Path, root: Value):
        self.path, self.root = path, root
        self.children: dict[int, list[tuple[Any, Value]]] = {}
        self.classes: dict[int, str] = {}  # of modules
        self.skipped: dict[str, str] = {}
        above: dict[int, tuple[int, Any]] = {}  # the first container and key that led to each
        holders: dict[int, list[int]] = {id(root): []}
        matters: dict[int, bool] = {}
        entries = 0
        tensors = [id(root)] if isinstance(root, _LEAVES) else []
        waiting = deque([root])
        while waiting:
            node = waiting.popleft()
            self._note_skipped(node, above)
            if not isinstance(node, _CONTAINERS) or id(node) in self.children:
                continue
            if len(self.children) == MOST_CONTAINERS:
                wrong = f"it has over {MOST_CONTAINERS:,} lists, dicts and objects in one another"
                raise BadFile(path, wrong, _MODEL_ONLY)
            children = []
            for key, child in children_of(node):
                entries += 1
                if entries > MOST_ENTRIES:
                    raise BadFile(path, f"it has over {MOST_ENTRIES:,} entries", _MODEL_ONLY)
                if _matters(child, matters):
                    children.append((key, child))
            self.children[id(node)], self.classes[id(node)] = children, module_class(node)
            for key, child in children:
                if id(child) not in holders:
                    above[id(child)] = id(node), key
                    waiting.append(child)
                    tensors += [id(child)] * isinstance(child, _LEAVES)
                holders.setdefault(id(child), []).append(id(node))
        self._drop_barren(tensors, holders)

    def _note_skipped(self, node: Value, above: dict[int, tuple[int, Any]]) -> None:
        if not isinstance(node, (Inert, Global)) or node.name in self.skipped or _CONSTANT.fullmatch(node.name):
            return
        if len(self.skipped) == _PLACE:
            return
        if isinstance(node, Inert) and unpack(node):
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
            node: [(key, child) for key, child in children if id(child) in fertile]
            for node, children in self.children.items()
            if node in fertile
        }

    def leaves(self) -> Iterator[tuple[Name, Leaf, str]]:
        """Yield name, leaf and the class of the module that has it, depth first and without recursion.

        A container that holds itself is not entered again.
        """
        levels: list[tuple[Value, Iterator[tuple[Name, Value]]]] = [(None, iter([((), self.root)]))]
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
                yield names, node, self.classes.get(id(place), "")
            elif len(names) >= DEPTH:
                raise BadFile(self.path, f"it is nested over {DEPTH} deep", _MODEL_ONLY)
            elif id(node) not in entered:
                entered.add(id(node))
                levels.append((node, self._below(names, node)))
        raise BadFile(self.path, f"it has over {STEPS:,} entries", _MODEL_ONLY)

    def _below(self, names: Name, node: Value) -> Iterator[tuple[Name, Value]]:
        return (((*names, key), child) for key, child in self.children.get(id(node), ()))


def _matters(child: Value, answers: dict[int, bool]) -> bool:
    """Return whether a child is, or may hold, an array or an object. Lists of numbers are left out here, for speed.

    ``answers`` has the answers for containers by id: a file may hold one of them a million times.
    """
    if not isinstance(child, (list, tuple, dict)):
        return isinstance(child, _NOT_PLAIN)
    if id(child) not in answers:
        items = child.values() if isinstance(child, dict) else child
        answers[id(child)] = any(isinstance(item, _NOT_PLAIN) for item in items)
    return answers[id(child)]
