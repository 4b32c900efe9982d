"""Members of a zip archive, as views of the file if they are not compressed. Every size that it claims is checked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import IO, TypeAlias

from crosscheck.studies.checkpoint.budget import Budget

Buffer: TypeAlias = bytes | memoryview
ZIP, EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
_LOCAL = struct.Struct("<4s22xHH")


class BadArchive(ValueError):
    """The archive, or a member of it, is damaged or claims what it does not hold."""


@dataclass
class Archive:
    """A zip archive in a buffer. ``contents`` has the members that were read."""

    buffer: memoryview
    members: dict[str, zipfile.ZipInfo]
    budget: Budget
    contents: dict[str, Buffer] = field(default_factory=dict)

    def read(self, name: str) -> Buffer:
        """Return the bytes of a member: a view of the file if it is not compressed, as torch's are not.

        Raises:
          BadArchive: there is no such member; it is truncated, encrypted or compressed by another method than deflate;
            or its checksum does not match.
          ValueError: all members together claim more than an archive of this size can hold.
        """
        if name in self.contents:
            return self.contents[name]
        info = self.members.get(name)
        if info is None:
            raise BadArchive(f"it has no member {name!r}")
        packed = self._packed(info)
        self.budget.claim(info.file_size)
        content = packed if info.compress_type == zipfile.ZIP_STORED else _unpack(info, packed)
        if len(content) != info.file_size:
            raise BadArchive(f"its member {name!r} has {len(content)} bytes and claims {info.file_size}")
        # torch writes 0 for all checksums after torch.serialization.set_crc32_options(False).
        if info.CRC and zlib.crc32(content) != info.CRC:
            raise BadArchive(f"its member {name!r} is damaged: the checksum is another")
        self.contents[name] = content
        return content

    def _packed(self, info: zipfile.ZipInfo) -> memoryview:
        start = info.header_offset
        if info.flag_bits & 1:
            raise BadArchive(f"its member {info.filename!r} is encrypted")
        if not 0 <= start <= len(self.buffer) - _LOCAL.size:
            raise BadArchive(f"its member {info.filename!r} lies outside of the file")
        signature, name, extra = _LOCAL.unpack_from(self.buffer, start)
        if signature != ZIP:
            raise BadArchive(f"its member {info.filename!r} does not begin where the archive says")
        start += _LOCAL.size + name + extra
        return self.buffer[start : start + info.compress_size]


def _unpack(info: zipfile.ZipInfo, packed: memoryview) -> bytes:
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise BadArchive(f"its member {info.filename!r} is packed by method {info.compress_type}")
    return zlib.decompressobj(-15).decompress(packed, info.file_size + 1)


def open_archive(buffer: memoryview, file: IO[bytes], budget: Budget | None = None) -> Archive:
    """Return the archive in a file.

    Args:
      buffer: the content of the file.
      file: the file, open for reading.
      budget: the budget of the file around this one; None if there is no such file.

    Raises:
      BadArchive: two members have one name, or the archive does not begin at the start of the file. A file that is no
        archive makes zipfile raise its own errors.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    by_name = {info.filename: info for info in members}
    if len(by_name) < len(members):
        raise BadArchive("it has two members of one name")
    if members and min(info.header_offset for info in members) > 0:
        raise BadArchive("it does not begin with its first member: are these two archives, one after the other?")
    return Archive(buffer, by_name, budget or Budget(len(buffer)))
