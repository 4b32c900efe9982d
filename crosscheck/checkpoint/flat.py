"""What a file of any format gives: arrays by name, and what has to be said about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from crosscheck.problem import Arrays


@dataclass(frozen=True)
class Refusal:
    """A network that a file says it has, and why it cannot be read. ``is_lstm`` is False for a GRU or a simple RNN."""

    reason: str
    is_lstm: bool = True


@dataclass
class Flat:
    """Arrays by dotted name.

    ``skipped`` has the classes of objects that were not made, with the name of the first place of each. ``notes`` say
    what was converted on reading, by the name of the array. ``refused`` are networks by name. ``holders`` are the
    classes of the modules that have an array as their own, by its name, if the file names them.
    """

    arrays: Arrays = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
