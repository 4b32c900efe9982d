"""What torch.load gives, as named NumPy arrays: nested containers flattened, every dtype kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch

from crosscheck.checkpoint.errors import BadFile
from crosscheck.problem import Arrays

DEPTH, ENTRIES, STRETCHED = 100, 5_000_000, 2**28


def flatten(path: Path, content: Any) -> Arrays:
    """The tensors of nested dicts, lists and tuples by dotted name, in order.

    Raises BadFile for ``path`` where containers hold themselves or are too many to be a checkpoint, and where two
    tensors would have one name.
    """
    arrays: Arrays = {}
    for names, tensor in _tensors(path, content):
        name = ".".join(names)
        if name in arrays:
            raise BadFile(path, f"it has two tensors called {name!r}", _MODEL_ALONE)
        array = as_array(path, name, tensor)
        if array is not None:
            arrays[name] = array
    return arrays


_MODEL_ALONE = "Save the weights of one model alone, such as model.state_dict()"
_CONTAINERS = (dict, list, tuple)  # and their subclasses: torch.load makes no others
_Named = tuple[tuple[str, ...], Any]


def _tensors(path: Path, content: Any) -> Iterator[_Named]:
    """Depth first and without recursion: a small pickle may hold one list a million times, or a dict itself."""
    entries = 0
    levels: list[Iterator[_Named]] = [iter([((), content)])]
    while levels:
        names, node = next(levels[-1], (None, None))
        if names is None:
            levels.pop()
        elif isinstance(node, torch.Tensor):
            yield names, node
        elif isinstance(node, _CONTAINERS):
            entries += len(node)
            if entries > ENTRIES:
                raise BadFile(path, f"it has over {ENTRIES:,} entries", _MODEL_ALONE)
            if len(names) == DEPTH:
                raise BadFile(path, f"it is nested over {DEPTH} deep, or holds itself", _MODEL_ALONE)
            levels.append(_children(names, node))


def _children(names: tuple[str, ...], node: Any) -> Iterator[_Named]:
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(child, (torch.Tensor, *_CONTAINERS)):
            yield (*names, str(key)), child


def as_array(path: Path, name: str, tensor: torch.Tensor) -> np.ndarray | None:
    """The tensor as an array over the same memory; None where it is not a dense one in memory.

    A quantized tensor gives its integers. NumPy's missing dtypes are those of ml_dtypes.
    """
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return None
    if tensor.numel() > STRETCHED and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        wrong = f"its tensor {name!r} is one of few numbers stretched to shape {tuple(tensor.shape)}"
        raise BadFile(path, wrong, "Save it with .contiguous(), or leave it out")
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    tensor = tensor.resolve_conj().resolve_neg()
    try:
        return tensor.numpy()
    except TypeError:  # NumPy has no such dtype of its own
        narrow = getattr(ml_dtypes, str(tensor.dtype).removeprefix("torch."), None)
        integers = {1: torch.uint8, 2: torch.int16}.get(tensor.element_size())
        if narrow is None or integers is None:
            return None
        return tensor.view(integers).numpy().view(narrow)
