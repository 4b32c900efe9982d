"""Members of a zip archive, as views of the file if they are stored as they are. Nothing is believed that it claims."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any

ZIP, EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
SMALL, DENSE = 2**26, 20  # bytes that a file may always have in all, and how many times its own size beyond that
_LOCAL = struct.Struct("<4s22xHH")


class BadArchive(ValueError):
    """The archive, or a member of it, is damaged or claims what it does not hold."""


@dataclass
class Unpacking:
    """How many bytes all archives in a file of ``size`` bytes claim to have, which is bounded."""

    size: int
    total: int = 0

    def claim(self, more: int) -> None:
        self.total += more
        if self.total > max(SMALL, DENSE * self.size):
            raise BadArchive(f"its members claim {self.total:,} bytes, and the file has {self.size:,}")


@dataclass
class Archive:
    """A zip archive in a buffer. ``members`` are by name, and ``held`` is what was read of them."""

    buffer: memoryview
    members: dict[str, zipfile.ZipInfo]
    unpacking: Unpacking
    held: dict[str, Any] = field(default_factory=dict)

    def read(self, name: str) -> Any:
        """Return the bytes of a member: a view if it is stored as it is, as torch does, else unpacked.

        Raises:
          BadArchive: there is no such member, it is cut, encrypted or packed by another method than deflate, its
            checksum is another, or all members together claim more than an archive of this size can hold.
        """
        if name in self.held:
            return self.held[name]
        info = self.members.get(name)
        if info is None:
            raise BadArchive(f"it has no member {name!r}")
        packed = self._packed(info)
        self.unpacking.claim(info.file_size)
        content = packed if info.compress_type == zipfile.ZIP_STORED else _unpacked(info, packed)
        if len(content) != info.file_size:
            raise BadArchive(f"its member {name!r} has {len(content)} bytes and claims {info.file_size}")
        # torch writes 0 for all checksums after torch.serialization.set_crc32_options(False).
        if info.CRC and zlib.crc32(content) != info.CRC:
            raise BadArchive(f"its member {name!r} is damaged: the checksum is another")
        self.held[name] = content
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


def _unpacked(info: zipfile.ZipInfo, packed: memoryview) -> bytes:
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise BadArchive(f"its member {info.filename!r} is packed by method {info.compress_type}")
    return zlib.decompressobj(-15).decompress(packed, info.file_size + 1)


def open_archive(buffer: memoryview, file: Any, unpacking: Unpacking | None = None) -> Archive:
    """Return the archive that ``file``, open for reading, holds; ``buffer`` is its content.

    ``unpacking`` counts for the file that this one is within; None if it is in no other.

    Raises BadArchive, or what zipfile raises for a file that is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    by_name = {info.filename: info for info in members}
    if len(by_name) < len(members):
        raise BadArchive("it has two members of one name")
    if members and min(info.header_offset for info in members) > 0:
        raise BadArchive("it does not begin with its first member: are these two archives, one after the other?")
    return Archive(buffer, by_name, unpacking or Unpacking(len(buffer)))
