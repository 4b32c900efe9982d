"""A table as a value. `crosscheck.report.terminal` prints it, and `crosscheck.report.page` shows it in HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from crosscheck.core.finding import Outcome

Tone = Literal["", "good", "doubt", "bad"]
TONES: dict[Outcome, Tone] = {
    Outcome.AGREE: "good",
    Outcome.VACUOUS: "doubt",
    Outcome.INCONCLUSIVE: "doubt",
    Outcome.DISAGREE: "bad",
}


@dataclass(frozen=True)
class Cell:
    """A text in a table.

    Attributes:
      text: the text.
      tone: gives it a colour, and a sign on a page.
      to: the anchor of the Fold on the page that it leads to.
    """

    text: str
    tone: Tone = ""
    to: str = ""


def outcome_cell(outcome: Outcome, expected: Outcome = Outcome.AGREE) -> Cell:
    """Return an outcome as a cell. If another outcome than AGREE is expected, only that one is good."""
    if expected is Outcome.AGREE:
        return Cell(str(outcome), TONES[outcome])
    if outcome is expected:
        return Cell(f"{outcome} (expected)", "good")
    return Cell(f"{outcome} (expected: {expected})", "bad")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
      title: the title above it, which may be empty.
      columns: the names of the columns. A column without a name holds words, which may wrap.
      rows: rows of texts or Cells, one per column.
      numeric: the columns that are aligned to the right.
      label: what a screen reader calls it; the title if empty.
      keys: the number of leading columns that identify a row.

    Raises:
      ValueError: a row has more or fewer cells than there are columns.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    numeric: tuple[str, ...] = ()
    label: str = ""
    keys: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row of {len(row)} for {len(self.columns)} columns: {row}.")

    @property
    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows, with every text as a Cell."""
        return tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in self.rows)
