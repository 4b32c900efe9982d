"""The total that one file may take, with the archives and pickles within it: a small file may claim to be large."""

from __future__ import annotations

from dataclasses import dataclass

OPCODES, COPIES = 3_000_000, 2**27
SMALL, DENSE = 2**26, 20  # members may have SMALL bytes together, or DENSE times the bytes of the file


class TooLarge(ValueError):
    """A pickle exceeds a limit of this reader."""


@dataclass
class Budget:
    """What a file takes.

    Attributes:
      size: bytes of the file.
      opcodes: opcodes that its pickles may still have.
      copies: bytes that they may still copy.
      claimed: bytes that the members of its archives claim to have.
      depth: number of files around the one that is read.
    """

    size: int = 0
    opcodes: int = OPCODES
    copies: int = COPIES
    claimed: int = 0
    depth: int = 0

    def pay_opcode(self) -> None:
        """Pay for one opcode. Raises TooLarge."""
        self.opcodes -= 1
        if self.opcodes < 0:
            raise TooLarge(f"it has over {OPCODES:,} opcodes")

    def pay_copy(self, size: int) -> None:
        """Pay for a copy of ``size`` bytes. Raises TooLarge."""
        self.copies -= size
        if self.copies < 0:
            raise TooLarge(f"it makes copies of over {COPIES:,} bytes")

    def claim(self, more: int) -> None:
        """Count ``more`` bytes of members. Raises ValueError if these are too many."""
        self.claimed += more
        if self.claimed > max(SMALL, DENSE * self.size):
            raise ValueError(f"its members claim {self.claimed:,} bytes, and the file has {self.size:,}")
