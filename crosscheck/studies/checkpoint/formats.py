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

from crosscheck.studies.checkpoint.archives import Archive
from crosscheck.studies.checkpoint.errors import BadFile, first_line
from crosscheck.studies.checkpoint.flat import Checkpoint
from crosscheck.studies.checkpoint.pickles import TooLarge
from crosscheck.studies.checkpoint.tensors import flatten
from crosscheck.studies.checkpoint.torch_arrays import from_torch
from crosscheck.studies.checkpoint.torch_files import read_pickled, read_torch_archive

AGAIN = "Is it whole? Download or save it again"


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile file makes a reader raise into a BadFile: the file looks like ``what``."""
    try:
        yield
    except BadFile:
        raise
    except Exception as error:
        advice = "Save only the weights, such as model.state_dict()" if isinstance(error, TooLarge) else AGAIN
        raise BadFile(path, f"it looks like {what}, and reading it failed ({first_line(error)})", advice) from error


def read_safetensors(path: Path) -> Checkpoint:
    """Through torch, which has all dtypes that the format has."""
    arrays, skipped = {}, dict[str, str]()
    with reading(path, "a safetensors file"), safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            try:
                arrays[name] = from_torch(file.get_tensor(name))
            except TypeError:  # no dtype that NumPy or ml_dtypes has
                skipped.setdefault("a tensor of a dtype that NumPy does not have", name)
    return Checkpoint(arrays, skipped)


def read_torch_zip(path: Path, archive: Archive) -> Checkpoint:
    """What torch.save and torch.jit.save write."""
    with reading(path, "a torch file"):
        return flatten(path, read_torch_archive(archive))


def read_pickle_file(path: Path, buffer: memoryview, file: IO[bytes]) -> Checkpoint:
    """A pickle, or torch's format from before 1.6, which is several."""
    with reading(path, "a pickle"):
        return flatten(path, read_pickled(buffer, file))


def read_npz(path: Path, archive: Archive) -> Checkpoint:
    """NumPy's archive, without object arrays: those are pickles."""
    flat = Checkpoint()
    for member in archive.members:
        name = member.removesuffix(".npy")
        with reading(path, "an archive of NumPy arrays"):
            dtype, array = _read_npy(archive.read(member))
        if dtype.hasobject:
            wrong = f"its array {name!r} holds Python objects, which may run any code when read, so it is refused"
            raise BadFile(path, wrong, "If its source is trusted, write only the arrays of numbers with numpy.savez")
        if array is None:
            flat.skipped.setdefault(f"numpy.ndarray of dtype {dtype}", name)
        else:
            flat.arrays[name] = array
    return flat


def _read_npy(content: bytes | memoryview) -> tuple[np.dtype, np.ndarray | None]:
    """The dtype, and the array over the same memory; None if it is not one of numbers."""
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
