"""torch's files: the archive that torch.save and torch.jit.save write, torch's format from before 1.6, and a pickle.

Each gives its content as plain containers of tensors, by :mod:`crosscheck.studies.checkpoint.pickles`, and nothing of
the file is run. Storages are views of the file. Source of the formats: ``torch/serialization.py``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from crosscheck.studies.checkpoint.archives import ZIP, Archive, BadArchive, Unpacking, open_archive
from crosscheck.studies.checkpoint.pickles import BadPickle, Budget, Make, read_pickle
from crosscheck.studies.checkpoint.records import KNOWN, Fetch, Storage, is_key, set_state, storage_of

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before 1.6
NESTED = 4  # pickles within storages


@dataclass(frozen=True)
class Content:
    """What a file gives, and whether its numbers are in the order of bytes of big-endian machines."""

    value: Any
    is_big_endian: bool = False


def is_torch_archive(archive: Archive) -> bool:
    return bool(_pickles(archive))


def _pickles(archive: Archive) -> list[str]:
    return [name for name in archive.members if name.endswith("/data.pkl") or name == "data.pkl"]


def read_torch_archive(archive: Archive, budget: Budget | None = None, depth: int = 0) -> Content:
    """``NAME/data.pkl`` is a pickle, and ``NAME/data/KEY`` are the storages. So are TorchScript's, beside its code."""
    pickles = _pickles(archive)
    if len(pickles) != 1:
        raise BadArchive(f"it has {len(pickles)} members data.pkl")
    folder = pickles[0].removesuffix("data.pkl")

    def fetch(key: str, size: int) -> Fetch:
        name = f"{folder}data/{key}"
        info = archive.members.get(name)
        if info is None or info.file_size < size:
            held = "is not there" if info is None else f"has {info.file_size:,} bytes"
            raise BadArchive(f"a tensor wants {size:,} bytes of the member {name!r}, which {held}")
        return lambda: archive.read(name)

    budget = budget or Budget()
    known = _known(budget, archive.unpacking, depth)
    value, _ = read_pickle(
        bytes(archive.read(pickles[0])), known, lambda identity: storage_of(identity, fetch), set_state, budget
    )
    order = bytes(archive.read(f"{folder}byteorder")) if f"{folder}byteorder" in archive.members else b"little"
    return Content(value, is_big_endian=order == b"big")


def read_pickled(
    buffer: memoryview,
    file: IO[bytes],
    budget: Budget | None = None,
    unpacking: Unpacking | None = None,
    depth: int = 0,
) -> Content:
    """A file from before torch 1.6 (``_use_new_zipfile_serialization=False``), or a pickle by itself.

    ``file`` is open for reading and ``buffer`` is its content. ``depth`` counts the pickles around this one, which
    have the same ``budget`` and ``unpacking``.
    """
    budget = budget or Budget()
    known = _known(budget, unpacking or Unpacking(len(buffer)), depth)
    first, _ = read_pickle(file, known, _no_storage, set_state, budget)
    if type(first) is not int or first != MAGIC:
        if file.read(1):
            raise BadPickle("it goes on after the end of its pickle")
        return Content(first)
    version, _ = read_pickle(file, known, _no_storage, set_state, budget)
    system, _ = read_pickle(file, known, _no_storage, set_state, budget)
    if version != 1001 or not isinstance(system, dict):
        raise BadPickle("it is not of torch's protocol 1001")
    storages = _Storages()
    value, _ = read_pickle(file, known, storages.by_id, set_state, budget)
    keys, _ = read_pickle(file, known, _no_storage, set_state, budget)
    storages.locate(buffer, file.tell(), keys)
    return Content(value, is_big_endian=system.get("little_endian") is False)


@dataclass
class _Storages:
    """The storages that stand in a file after the pickle that names them."""

    item_sizes: dict[str, int] = field(default_factory=dict)
    found: dict[str, memoryview] = field(default_factory=dict)

    def by_id(self, identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[:1] == ("module",):  # a class, with its source beside it
            return identity[1]
        storage = storage_of(identity, self._fetch)
        if not isinstance(storage, Storage):
            raise BadPickle(f"it has a {storage.name}, whose numbers have no whole bytes")
        self.item_sizes[str(identity[2])] = storage.dtype.itemsize
        view = identity[5] if len(identity) > 5 else None
        return storage if view is None else _window(storage, view)

    def _fetch(self, key: str, size: int) -> Fetch:
        def content() -> memoryview:
            if len(self.found.get(key, b"")) < size:
                raise BadPickle(f"a tensor wants {size:,} bytes of the storage {key!r}, which is not whole")
            return self.found[key]

        return content

    def locate(self, buffer: memoryview, start: int, keys: Any) -> None:
        """Each storage is a count, int64, and so many numbers."""
        if not isinstance(keys, list) or not all(map(is_key, keys)):
            raise BadPickle("the list of its storages is no list of keys")
        for key in map(str, keys):
            if start + _COUNT.size > len(buffer):
                return
            size = _COUNT.unpack_from(buffer, start)[0] * self.item_sizes.get(key, 1)
            start += _COUNT.size
            if size < 0:
                return
            self.found[key] = buffer[start : start + size]
            start += size


_COUNT = struct.Struct("<q")


def _window(storage: Storage, view: Any) -> Storage:
    """A part of a storage: (key, offset, count)."""
    _, offset, count = view
    if type(offset) is not int or type(count) is not int or min(offset, count) < 0 or offset + count > storage.count:
        raise BadPickle("a window on a storage reaches beyond it")
    size = storage.dtype.itemsize
    return Storage(storage.dtype, lambda: storage.fetch()[offset * size : (offset + count) * size], count)


def _no_storage(identity: Any) -> Any:
    raise BadPickle("it has a persistent id, and no storages")


def _known(budget: Budget, unpacking: Unpacking, depth: int) -> Mapping[str, Make]:
    """The names that stand for data. A storage that was pickled by itself holds a file of torch's in its bytes."""

    def storage_in(args: Any) -> Any:
        if depth >= NESTED or not isinstance(args[0], (bytes, bytearray)):
            raise BadPickle(f"it has files of torch's in files of torch's, over {NESTED} deep")
        inner = _read_within(memoryview(args[0]), io.BytesIO(args[0]), budget, unpacking, depth + 1)
        if inner.is_big_endian:
            raise BadPickle("it has storages from a big-endian machine in a pickle")
        return inner.value

    return KNOWN | {"torch.storage._load_from_bytes": storage_in}


def _read_within(buffer: memoryview, file: IO[bytes], budget: Budget, unpacking: Unpacking, depth: int) -> Content:
    """A file of torch's within another, which pays for both."""
    if bytes(buffer[:4]) == ZIP:
        return read_torch_archive(open_archive(buffer, file, unpacking), budget, depth)
    return read_pickled(buffer, file, budget, unpacking, depth)
