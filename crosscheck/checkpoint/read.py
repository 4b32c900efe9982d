"""A checkpoint file as a flat dict of arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from crosscheck.checkpoint.errors import BadFile
from crosscheck.checkpoint.formats import read_npz, read_safetensors, read_torch
from crosscheck.problem import Arrays

READERS: dict[str, Callable[[Path], Arrays]] = {
    ".safetensors": read_safetensors,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": read_torch,
    ".ckpt": read_torch,
    ".npz": read_npz,
}


def read_arrays(path: str | os.PathLike[str]) -> Arrays:
    """Every array in the file, by dotted name, in the file's order; the ending tells the format.

    Nested dicts, lists and tuples are joined by dots ("model_state.lstm.weight_ih_l0"), and so are names with
    slashes. Leaves that are no dense arrays (numbers, strings, sparse tensors) are left out. Arrays keep their dtype,
    the narrow ones as ml_dtypes' (bfloat16, float8), and may be read-only views of the file.

    Raises:
      BadFile: there is no such file, it is none of these formats, damaged, or only readable by running code that is in
        it.
    """
    path = Path(path)
    _check(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise BadFile(path, f"its ending is {path.suffix or 'missing'!r}", f"Known formats, by ending, are {known}")
    arrays = reader(path)
    dotted = {name.replace("/", "."): array for name, array in arrays.items()}
    if len(dotted) < len(arrays):
        raise BadFile(path, "it has names that differ in slashes and dots alone", "Rename its arrays")
    return dotted


def _check(path: Path) -> None:
    """What is wrong with any file, whatever its format."""
    try:
        if path.is_dir():
            raise BadFile(path, "it is a folder", "Give a file in it")
        if not path.exists():
            raise BadFile(path, "there is no such file", "Check its name")
        if not path.is_file():
            raise BadFile(path, "it is no regular file", "Copy its content to one")
        with path.open("rb") as file:
            if not file.read(1):
                raise BadFile(path, "it is empty", "Download or save it again")
    except (OSError, ValueError) as error:
        if isinstance(error, BadFile):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise BadFile(path, f"it cannot be opened ({reason})", "Check its name and permissions") from error
