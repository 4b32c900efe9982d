"""What a file of any format holds: arrays by name, and what the user must know about them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from crosscheck.core.problem import Arrays
from crosscheck.studies.checkpoint.errors import printable

TOP = "(top level)"


@dataclass(frozen=True)
class Skipped:
    """A recurrent network, by its names, that is no LSTM or cannot be run.

    Attributes:
      prefix: the text before the names, without the dot; "" at the top level.
      kind: torch's class as far as shapes tell it, "optimizer state", or "unknown".
      reason: why it is not run.
      is_lstm: whether it is an LSTM of the file that is left unchecked.
    """

    prefix: str
    kind: str
    reason: str
    is_lstm: bool = False

    @property
    def name(self) -> str:
        """The prefix as text for the user."""
        return printable(self.prefix) or TOP


@dataclass
class Checkpoint:
    """What a file holds.

    Attributes:
      arrays: every array by dotted name, in the file's order, in its own dtype. They may be views of the file.
      skipped: classes of objects that are in the file and were not made, each with its first place in the file, and
        members of an archive that are no torch files. Arrays in such an object are read nevertheless.
      notes: what was converted on reading, by the name of the array.
      refused: networks of a Keras file or an ONNX model that cannot be read.
      holders: classes of the modules that have an array as their own, by its name, if the file names them.
    """

    arrays: Arrays = field(default_factory=dict, repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    refused: list[Skipped] = field(default_factory=list)
    holders: dict[str, str] = field(default_factory=dict)

    def add(self, part: Checkpoint, prefix: str = "") -> None:
        """Add what a part of the file holds, with ``prefix`` before its names."""
        self.arrays |= {f"{prefix}{name}": array for name, array in part.arrays.items()}
        self.notes |= {f"{prefix}{name}": note for name, note in part.notes.items()}
        self.holders |= {f"{prefix}{name}": holder for name, holder in part.holders.items()}
        self.skipped |= {kind: f"{prefix}{place}" for kind, place in part.skipped.items()}
        self.refused += [replace(network, prefix=f"{prefix}{network.prefix}") for network in part.refused]
