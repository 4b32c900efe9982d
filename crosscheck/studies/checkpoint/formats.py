"""The formats that store arrays by name: safetensors, and NumPy's archive."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from crosscheck.studies.checkpoint.archives import Archive
from crosscheck.studies.checkpoint.contents import Checkpoint
from crosscheck.studies.checkpoint.errors import BadFile, reading_as
from jax_lstm.convert.safetensors import map_safetensors


def read_safetensors(path: Path) -> Checkpoint:
    """Return the arrays of a safetensors file, as views of the file."""
    with reading_as("a safetensors file", path):
        arrays, unknown = map_safetensors(path)
    first = next(iter(unknown), None)
    return Checkpoint(arrays, {"a tensor of a dtype that NumPy does not have": first} if first is not None else {})


def read_npz(path: Path, archive: Archive) -> Checkpoint:
    """Return the arrays of a NumPy archive. BadFile if it has object arrays, which are pickles."""
    checkpoint = Checkpoint()
    for member in archive.members:
        name = member.removesuffix(".npy")
        with reading_as("an archive of NumPy arrays", path):
            dtype, array = _read_npy(archive.read(member))
        if dtype.hasobject:
            wrong = f"its array {name!r} holds Python objects, which may run any code when read, so it is refused"
            raise BadFile(path, wrong, "If its source is trusted, write only the arrays of numbers with numpy.savez")
        if array is None:
            checkpoint.skipped.setdefault(f"numpy.ndarray of dtype {dtype}", name)
        else:
            checkpoint.arrays[name] = array
    return checkpoint


def _read_npy(content: bytes | memoryview) -> tuple[np.dtype, np.ndarray | None]:
    """Return the dtype and the array, over the same memory. The array is None if it is not one of numbers."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array has version {version} of the format, where 1.0 and 2.0 are known")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(file)
    if dtype.kind not in "biufc":
        return dtype, None
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"an array of shape {shape} has {len(content) - file.tell():,} bytes")
    array: np.ndarray = np.ndarray(shape, dtype, content, file.tell(), order="F" if by_columns else "C")
    return dtype, array.astype(dtype.newbyteorder("="), copy=False)
