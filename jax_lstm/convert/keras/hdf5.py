"""HDF5 of an untrusted file: nothing outside of the file is followed, and sizes are bounded before memory is taken."""

from __future__ import annotations

from itertools import count, takewhile
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

Node: TypeAlias = Any  # h5py's Group, File or Dataset. h5py is imported only if a file is read.
LARGE, DENSE = 2**24, 20  # a file that declares more bytes than this, and this times what it holds, is refused
STRINGS = 2**12  # what fits in an attribute that Keras writes: 64 KiB of references of 16 bytes
FOREIGN = "it is no file of Keras's."


def check_size(name: str, declared: int, held: int) -> None:
    """Refuse a part of a file that would take far more memory than the file has bytes for it. ValueError."""
    if declared > max(LARGE, DENSE * held):
        raise ValueError(f"{name} declares {declared} bytes and holds {held}: {FOREIGN}")


def child(group: Node, path: str) -> Node:
    """Return what is at ``path`` below a group. Links are never followed, since they may point to another file.

    ValueError if there is no such entry, or if it is a link.
    """
    for name in path.split("/"):
        if not name or not hasattr(group, "keys"):
            raise ValueError(f"{group.name} has no {path!r} below it: {FOREIGN}")
        link = group.get(name, getlink=True)
        if link is None:
            raise ValueError(f"{group.name} has no {name!r}: was the model built when it was saved?")
        if type(link).__name__ != "HardLink":
            raise ValueError(f"{group.name} has {name!r} as a {type(link).__name__}: {FOREIGN}")
        group = group[name]
    return group


def read_dataset(dataset: Node) -> np.ndarray:
    """Return the numbers of a dataset. ValueError if they lie elsewhere, are no numbers or declare a harmful size."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} lies in another file: {FOREIGN}")
    bfloat16 = read_text(dataset, "dtype") == "bfloat16"  # HDF5 has no name for it
    if dataset.dtype.kind not in ("V" if bfloat16 else "fiu"):
        raise ValueError(f"{dataset.name} has dtype {dataset.dtype}, where numbers are expected: {FOREIGN}")
    check_size(dataset.name, dataset.nbytes, dataset.id.get_storage_size())
    numbers = dataset[()]
    return numbers.view(jnp.bfloat16) if bfloat16 else numbers.astype(numbers.dtype.newbyteorder("="), copy=False)


def read_text(node: Node, name: str) -> str | None:
    """Return an attribute that is one string, or None if there is no such attribute."""
    if name not in node.attrs:
        return None
    strings = _strings(node, name)
    if len(strings) != 1:
        raise ValueError(f"{node.name} has {len(strings)} strings in its attribute {name!r}, where one is expected.")
    return strings[0]


def read_texts(node: Node, name: str) -> list[str] | None:
    """Return an attribute that is a list of strings, or None. Keras splits a large one into name0, name1, ..."""
    if name in node.attrs:
        return _strings(node, name)
    parts = list(takewhile(node.attrs.__contains__, (f"{name}{number}" for number in count())))
    return [string for part in parts for string in _strings(node, part)] if parts else None


def _strings(node: Node, name: str) -> list[str]:
    declared = node.attrs.get_id(name)
    kind, size = declared.dtype.kind, int(np.prod(declared.shape, dtype=object))
    if size == 0:  # Keras's empty list, which NumPy makes one of float64
        return []
    if kind not in "SO" or (kind == "O" and size > STRINGS):
        raise ValueError(
            f"{node.name} has {size} values of dtype {declared.dtype} as its attribute {name!r}, where strings are "
            f"expected, and at most {STRINGS} of any length: {FOREIGN}"
        )
    check_size(f"{node.name}, attribute {name!r},", size * declared.dtype.itemsize, declared.get_storage_size())
    values = np.asarray(node.attrs[name], dtype=object).ravel()
    return [value.decode("utf8") if isinstance(value, bytes) else str(value) for value in values]
