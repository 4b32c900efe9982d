"""A checkpoint file as a flat dict of arrays. The content of the file tells its format; its name is not used."""

from __future__ import annotations

import gc
import io
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from crosscheck.studies.checkpoint.archives import EMPTY_ZIP, ZIP, Archive, open_archive
from crosscheck.studies.checkpoint.contents import Checkpoint
from crosscheck.studies.checkpoint.errors import BadFile, listed, reading_as
from crosscheck.studies.checkpoint.formats import read_npz, read_safetensors
from crosscheck.studies.checkpoint.keras_and_onnx import read_keras, read_onnx
from crosscheck.studies.checkpoint.shards import read_index
from crosscheck.studies.checkpoint.tensors import flatten
from crosscheck.studies.checkpoint.torch_files import is_torch_archive, read_pickled, read_torch_archive

KNOWN = "safetensors, torch, pickle, .npz, Keras, ONNX, and the index of a model in shards"
HDF5 = b"\x89HDF\r\n\x1a\n"
ONNX = b"\x08"  # the first field of a model, the version of the format
KERAS = {"config.json", "model.weights.h5"}  # members of a .keras archive
HEADER = 100_000_000  # bytes, the most that safetensors allows
T = TypeVar("T")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)")
_PICKLES = (b"\x80", b"(", b"c", b"}", b"]")  # protocols from 2, and how earlier protocols begin
_OTHERS = {  # other files that people call a checkpoint, by how they begin
    b"version https://git-lfs": ("it is a pointer of Git LFS and not the file itself", "Run git lfs pull"),
    b"<": ("it is a page of a web site (HTML or XML)", "Download the file itself"),
    b"\x93NUMPY": ("it is one array of NumPy's, without a name", "Write the arrays by name with numpy.savez"),
    b"\x1f\x8b": ("it is compressed by gzip", "Unpack it first"),
    b"BZh": ("it is compressed by bzip2", "Unpack it first"),
    b"\xfd7zXZ": ("it is compressed by xz", "Unpack it first"),
    b"\x28\xb5\x2f\xfd": ("it is compressed by zstd", "Unpack it first"),
    b"GGUF": ("it is a GGUF file", "Give the file that it was made from"),
}


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read every array in a file.

    The names of nested dicts, lists, tuples and objects are joined by dots ("model_state.lstm.weight_ih_l0"). Slashes
    in names become dots. Leaves that are no dense arrays (numbers, strings, sparse tensors) are left out. Narrow
    dtypes come from ml_dtypes (bfloat16, float8). Quantized tensors are dequantized. From a Keras file or an ONNX
    model only the LSTM networks are read, by torch's names and in torch's layout.

    Nothing of the file is imported or called: `crosscheck.studies.checkpoint.pickles` says how pickles are read.

    Args:
      path: the file.

    Returns:
      The arrays, and what the user must know about them.

    Raises:
      BadFile: there is no such file, its format is unknown, it is damaged, or it is one of several shards.
    """
    path = Path(path)
    with _without_collector():
        read = _read(path)
    arrays = _dotted(read.arrays)
    if len(arrays) < len(read.arrays):
        raise BadFile(path, "it has names that differ only in slashes and dots", "Rename its arrays")
    refused = [replace(network, prefix=network.prefix.replace("/", ".")) for network in read.refused]
    return Checkpoint(arrays, read.skipped, _dotted(read.notes), refused, _dotted(read.holders))


def _dotted(by_name: Mapping[str, T]) -> dict[str, T]:
    return {name.replace("/", "."): value for name, value in by_name.items()}


@contextmanager
def _without_collector() -> Iterator[None]:
    """Stop Python's garbage collector, which would visit millions of objects many times while a pickle makes them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read(path: Path, is_listed: bool = False) -> Checkpoint:
    """Return the content of a file. ``is_listed`` says that an index names it."""
    with _open(path) as file:
        begin = file.read(512)
        file.seek(0)
        is_safetensors = begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= HEADER
        if not is_safetensors and begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            if is_listed:
                raise BadFile(path, "it is an index within an index", "Check the index")
            return read_index(path, partial(_read, is_listed=True))
        if not is_listed:
            _refuse_shard(path)
        if is_safetensors:
            return read_safetensors(path)
        _refuse_others(path, begin)
        buffer = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if begin.startswith((ZIP, EMPTY_ZIP)):
            return _read_zip(path, buffer, file)
        if begin.startswith(_PICKLES):
            with reading_as("a pickle", path):
                return flatten(path, read_pickled(buffer, file))
        if begin.startswith(HDF5):
            return read_keras(path)
        if begin.startswith(ONNX):
            return read_onnx(path)
    raise BadFile(path, "its format is not known here", f"Known are {KNOWN}")


def _read_zip(path: Path, buffer: memoryview, file: IO[bytes]) -> Checkpoint:
    with reading_as("a zip archive", path):
        archive = open_archive(buffer, file)
    if is_torch_archive(archive):
        return _read_torch(path, archive)
    names = [name for name in archive.members if not name.endswith("/")]
    if set(names) >= KERAS:
        return read_keras(path)
    if all(name.endswith(".npy") for name in names):
        return read_npz(path, archive)
    return _read_members(path, archive, names)


def _read_torch(path: Path, archive: Archive) -> Checkpoint:
    with reading_as("a torch file", path):
        return flatten(path, read_torch_archive(archive))


def _read_members(path: Path, archive: Archive, names: list[str]) -> Checkpoint:
    """Return the torch files in an archive, as Stable-Baselines3 writes it, each below its name without the ending."""
    checkpoint = Checkpoint()
    others = []
    for name in names:
        with reading_as("a zip archive", path):
            content = memoryview(archive.read(name))
            is_archive = bytes(content[:4]) == ZIP
            inner = open_archive(content, io.BytesIO(content), archive.budget) if is_archive else None
        if inner is None or not is_torch_archive(inner):
            others.append(name)
            continue
        checkpoint.add(_read_torch(path, inner), f"{name.removesuffix(Path(name).suffix)}.")
    if len(others) == len(names):
        raise BadFile(path, f"it is a zip archive of {listed(names)}", "Unpack it and give the file of weights")
    if others:
        checkpoint.skipped["members that are no torch files"] = listed(others)
    return checkpoint


def _refuse_others(path: Path, begin: bytes) -> None:
    for start, (wrong, advice) in _OTHERS.items():
        if begin.lstrip().startswith(start):
            raise BadFile(path, wrong, advice)
    if begin[257:262] == b"ustar":
        raise BadFile(path, "it is a tar archive", "Unpack it and give the file of weights in it")


def _refuse_shard(path: Path) -> None:
    """Refuse one file of several. It has only some of the layers, which would look like a smaller network."""
    match = _SHARD.fullmatch(path.name)
    if match and int(match["count"]) > 1:
        index = f"{match['stem']}{match['ending']}.index.json"
        wrong = f"this is shard {int(match['number'])} of {int(match['count'])}"
        raise BadFile(path, wrong, f"Give the index, {index}, with all shards beside it")


def _open(path: Path) -> IO[bytes]:
    """Open a file. Raise BadFile for what is wrong with a file of any format."""
    try:
        if path.is_dir():
            raise BadFile(path, "it is a folder", "Give a file in it")
        if not path.exists():
            raise BadFile(path, "there is no such file", "Check its name")
        if not path.is_file():
            raise BadFile(path, "it is no regular file", "Copy its content to one")
        if not path.stat().st_size:
            raise BadFile(path, "it is empty", "Download or save it again")
        return path.open("rb")
    except BadFile:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadFile(path, f"it cannot be opened ({reason})", "Check its name and permissions") from error
