"""The measurements as frozen values, and their form in JSON. Tables and plots can be made from the JSON again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from benchmarks.comparison import Comparison, compare, quartiles
from benchmarks.shapes import Shape

OURS, TORCH, FLAX = "jax_lstm", "torch.nn.LSTM", "flax.linen"


@dataclass(frozen=True)
class Row:
    """The measurement of one implementation at one piece of work.

    Attributes:
      implementation: its name.
      shape, kind, feature, precision: the work.
      version: of its distribution.
      seconds: of every timed run, in order.
      compile_seconds: None if nothing is compiled.
      memory: in bytes; None if it is unknown.
      error: the largest error of its results, relative to the norm of the result. None if it has no results.
      quantity: the name of the result with this error.
      differs: whether it computes something else.
      reason: why there are no timed runs.
    """

    implementation: str
    shape: Shape
    kind: str
    feature: str
    precision: str
    version: str = ""
    seconds: tuple[float, ...] = ()
    compile_seconds: float | None = None
    memory: int | None = None
    error: float | None = None
    quantity: str = ""
    differs: bool = False
    reason: str = ""

    @property
    def ours(self) -> bool:
        """Whether this is jax_lstm, with or without options."""
        return self.implementation.split(" ")[0] == OURS

    @property
    def work(self) -> tuple[Shape, str]:
        """The key of the piece of work."""
        return self.shape, self.kind

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The quartiles of the timed runs. The middle one is the median. With a single run all three are its time."""
        return quartiles(self.seconds)

    @property
    def median(self) -> float | None:
        """The median of the timed runs."""
        return self.quartiles[1] if self.seconds else None

    @property
    def spread(self) -> float | None:
        """The distance between the quartiles, relative to the median."""
        if not self.seconds:
            return None
        low, middle, high = self.quartiles
        return (high - low) / middle


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
      rows: in the order in which they were measured.
      settings: as `settings.record` returns them.
      command: the command line that measures this again.
      sweep: "T", "H", "B", or "".
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    sweep: str = ""

    @property
    def exit_code(self) -> int:
        """1 if ours computes something else, 2 if nothing was timed or ours by default could not run, else 0."""
        if any(row.differs and row.ours for row in self.rows):
            return 1
        broken = any(row.implementation == OURS and not row.seconds for row in self.rows)
        return 2 if broken or not any(row.seconds for row in self.rows) else 0


def base_rows(rows: Iterable[Row], unit: str = OURS) -> dict[tuple[Shape, str], Row]:
    """Return the timed rows of one implementation by work. Other implementations are compared with these rows."""
    return {row.work: row for row in rows if row.implementation == unit and row.seconds}


def compared(rows: Sequence[Row], unit: str = OURS) -> dict[Row, Comparison]:
    """Return the timed rows in units of one implementation: over 1 is slower. Work that this one lacks is left out."""
    base = base_rows(rows, unit)
    return {row: compare(row.seconds, base[row.work].seconds) for row in rows if row.seconds and row.work in base}


def as_content(result: Result) -> dict[str, Any]:
    """Return the content of --json."""
    to_ours = compared(result.rows)
    return {
        "ok": result.exit_code == 0,
        "reproduce": result.command,
        "sweep": result.sweep,
        "settings": dict(result.settings),
        "rows": [_row(row, to_ours.get(row)) for row in result.rows],
    }


def _row(row: Row, to_ours: Comparison | None) -> dict[str, Any]:
    """Return every field, and the values that are computed from the times."""
    return {each.name: getattr(row, each.name) for each in fields(Row)} | {
        "shape": dict(zip("TBDH", row.shape, strict=True)),
        "median": row.median,
        "spread": row.spread,
        "ratio": None if to_ours is None else to_ours.ratio,
        "quartiles": list(row.quartiles[::2]) if row.seconds else None,
        "fastest": min(row.seconds, default=None),
        "runs": len(row.seconds),
        "seconds": list(row.seconds),
    }


def from_content(content: Any) -> Result:
    """Return the result of which `as_content` made ``content``.

    Raises:
      ValueError: the content is damaged.
    """
    try:
        rows = tuple(_read_row(row) for row in content["rows"])
        return Result(rows, content["settings"], content["reproduce"], content["sweep"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is a damaged result: {error!r}") from error


def _read_row(row: Mapping[str, Any]) -> Row:
    values = {each.name: row[each.name] for each in fields(Row)}
    values["shape"] = Shape(*(row["shape"][axis] for axis in "TBDH"))
    values["seconds"] = tuple(row["seconds"])
    if row["error"] is not None:
        values["error"] = float(row["error"])  # an infinite one is text in JSON
    return Row(**values)


def implementations_in(rows: Iterable[Row]) -> list[str]:
    """Return the names, in the order of their first rows."""
    return list(dict.fromkeys(row.implementation for row in rows))
