"""The file formats: one reader each, to arrays by name. None of them runs what a file says."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import safetensors

from crosscheck.checkpoint.archives import Archive
from crosscheck.checkpoint.errors import BadFile, first_line
from crosscheck.checkpoint.flat import Flat
from crosscheck.checkpoint.tensors import flatten
from crosscheck.checkpoint.torch_arrays import from_torch
from crosscheck.checkpoint.torch_files import read_pickled, read_torch_archive

AGAIN = "Is it whole? Download or save it again"


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever a damaged or hostile file makes a reader raise is a BadFile: the file is no ``what`` that is whole."""
    try:
        yield
    except BadFile:
        raise
    except Exception as error:
        raise BadFile(path, f"it begins as {what} does and cannot be read ({first_line(error)})", AGAIN) from error


def read_safetensors(path: Path) -> Flat:
    """Through torch, which has all dtypes that the format has."""
    arrays = {}
    with reading(path, "a safetensors file"), safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            try:
                arrays[name] = from_torch(file.get_tensor(name))
            except TypeError:  # no dtype that NumPy or ml_dtypes has
                continue
    return Flat(arrays)


def read_torch_zip(path: Path, archive: Archive) -> Flat:
    """What torch.save and torch.jit.save write."""
    with reading(path, "a file of torch's"):
        return flatten(path, read_torch_archive(archive))


def read_pickle_file(path: Path, buffer: memoryview, file: IO[bytes]) -> Flat:
    """A pickle, or torch's format from before 1.6, which is several."""
    with reading(path, "a pickle"):
        return flatten(path, read_pickled(buffer, file))


def read_npz(path: Path, archive: Archive) -> Flat:
    """NumPy's archive, without object arrays: those are pickles."""
    arrays = {}
    for member in archive.members:
        name = member.removesuffix(".npy")
        with reading(path, "an archive of NumPy's"):
            array = _read_npy(archive.read(member))
        if array is None:
            wrong = f"its array {name!r} holds Python objects, which may run any code when read, so it is refused"
            raise BadFile(path, wrong, "If its source is trusted, write only the arrays of numbers with numpy.savez")
        arrays[name] = array
    return Flat(arrays)


def _read_npy(content: bytes | memoryview) -> np.ndarray | None:
    """The array over the same memory; None if its elements are Python objects."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array has version {version} of the format, where 1.0 and 2.0 are known")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(file)
    if dtype.hasobject:
        return None
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"an array of shape {shape} has {len(content) - file.tell():,} bytes")
    array: np.ndarray = np.ndarray(shape, dtype, content, file.tell(), order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
