"""torch's files: the archive that torch.save and torch.jit.save write, torch's format from before 1.6, and a pickle.

`crosscheck.studies.checkpoint.pickles` reads each of them as plain containers of tensors. Nothing of the file is
run. Storages are views of the file. Source of the formats: ``torch/serialization.py``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, NoReturn

from crosscheck.studies.checkpoint.archives import ZIP, Archive, BadArchive, open_archive
from crosscheck.studies.checkpoint.budget import Budget
from crosscheck.studies.checkpoint.pickles import BadPickle, Value, read_pickle
from crosscheck.studies.checkpoint.records import MAKERS, Fetch, Storage, is_key, set_state, storage_of

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before 1.6
NESTED = 4  # pickles within storages, at most


def is_torch_archive(archive: Archive) -> bool:
    """Return whether an archive has a pickle where torch puts it."""
    return bool(_pickles(archive))


def _pickles(archive: Archive) -> list[str]:
    return [name for name in archive.members if name.endswith("/data.pkl") or name == "data.pkl"]


def read_torch_archive(archive: Archive) -> Value:
    """Return the content of a file by torch.save or torch.jit.save, whose code is not read.

    ``NAME/data.pkl`` is a pickle, and ``NAME/data/KEY`` are the storages.
    """
    pickles = _pickles(archive)
    if len(pickles) != 1:
        raise BadArchive(f"it has {len(pickles)} members data.pkl")
    content, folder = bytes(archive.read(pickles[0])), pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    is_big_endian = order in archive.members and archive.read(order) == b"big"

    def fetch(key: str, size: int) -> Fetch:
        name = f"{folder}data/{key}"
        info = archive.members.get(name)
        if info is None or info.file_size < size:
            held = "is not there" if info is None else f"has {info.file_size:,} bytes"
            raise BadArchive(f"a tensor wants {size:,} bytes of the member {name!r}, which {held}")
        return lambda: archive.read(name)

    def storage(identity: Value) -> Value:
        return storage_of(identity, fetch, is_big_endian)

    return _read(content, archive.budget, storage)


def read_pickled(buffer: memoryview, file: IO[bytes], budget: Budget | None = None) -> Value:
    """Return the content of a file from before torch 1.6, or of a single pickle.

    torch still writes the old format with ``_use_new_zipfile_serialization=False``.

    Args:
      buffer: the content of the file.
      file: the file, open for reading.
      budget: the budget of the file around this one; None if there is no such file.
    """
    budget = budget or Budget(len(buffer))
    first = _read(file, budget)
    if type(first) is not int or first != MAGIC:
        if file.read(1):
            raise BadPickle("it goes on after the end of its pickle")
        return first
    version, system = _read(file, budget), _read(file, budget)
    if version != 1001 or not isinstance(system, dict):
        raise BadPickle("it is not of torch's protocol 1001")
    storages = _Storages(is_big_endian=system.get("little_endian") is False)
    value = _read(file, budget, storages.by_id)
    keys = _read(file, budget)
    storages.locate(buffer, file.tell(), keys)
    return value


def _no_storage(identity: Value) -> NoReturn:
    raise BadPickle("it has a persistent id, and no storages")


def _read(data: bytes | IO[bytes], budget: Budget, persistent: Callable[[Value], Value] = _no_storage) -> Value:
    """Return the value of one pickle. The bytes of a storage that was pickled separately are another torch file."""

    def load_storage(args: Sequence[Value]) -> Value:
        if budget.depth >= NESTED or not isinstance(args[0], (bytes, bytearray)):
            raise BadPickle(f"it has files of torch's in files of torch's, over {NESTED} deep")
        buffer, file = memoryview(args[0]), io.BytesIO(args[0])
        budget.depth += 1
        if args[0].startswith(ZIP):
            inner = read_torch_archive(open_archive(buffer, file, budget))
        else:
            inner = read_pickled(buffer, file, budget)
        budget.depth -= 1
        return inner

    makers = MAKERS | {"torch.storage._load_from_bytes": load_storage}
    value, _ = read_pickle(data, makers, persistent, set_state, budget)
    return value


@dataclass
class _Storages:
    """The storages that stand in a file after the pickle that names them."""

    is_big_endian: bool
    item_sizes: dict[str, int] = field(default_factory=dict)
    contents: dict[str, memoryview] = field(default_factory=dict)

    def by_id(self, identity: Value) -> Value:
        """Return the storage of a persistent id. Its bytes are known after `locate`."""
        if isinstance(identity, tuple) and identity[:1] == ("module",):  # a class, with its source beside it
            return identity[1]
        storage = storage_of(identity, self._fetch, self.is_big_endian)
        if not isinstance(storage, Storage):
            raise BadPickle(f"it has a {storage.name}, whose numbers have no whole bytes")
        self.item_sizes[str(identity[2])] = storage.dtype.itemsize
        view = identity[5] if len(identity) > 5 else None
        return storage if view is None else _window(storage, view)

    def _fetch(self, key: str, size: int) -> Fetch:
        def content() -> memoryview:
            if len(self.contents.get(key, b"")) < size:
                raise BadPickle(f"a tensor wants {size:,} bytes of the storage {key!r}, which is not whole")
            return self.contents[key]

        return content

    def locate(self, buffer: memoryview, start: int, keys: Value) -> None:
        """Find the storages in ``buffer``. Each is a count n, int64, and n numbers."""
        if not isinstance(keys, list) or not all(map(is_key, keys)):
            raise BadPickle("the list of its storages is no list of keys")
        for key in map(str, keys):
            if start + _COUNT.size > len(buffer):
                return
            size = _COUNT.unpack_from(buffer, start)[0] * self.item_sizes.get(key, 1)
            start += _COUNT.size
            if size < 0:
                return
            self.contents[key] = buffer[start : start + size]
            start += size


_COUNT = struct.Struct("<q")


def _window(storage: Storage, view: Value) -> Storage:
    """Return a part of a storage; ``view`` is (key, offset, count)."""
    _, offset, count = view
    if type(offset) is not int or type(count) is not int or min(offset, count) < 0 or offset + count > storage.count:
        raise BadPickle("a window on a storage reaches beyond it")
    size = storage.dtype.itemsize
    return replace(storage, fetch=lambda: storage.fetch()[offset * size : (offset + count) * size], count=count)
