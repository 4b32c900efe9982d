"""What was measured, as frozen values, and their form in JSON, from which the table and the plot can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.comparison import Comparison, compare, quartiles
from benchmarks.shapes import Shape

OURS, TORCH, FLAX = "jax_lstm", "torch.nn.LSTM", "flax.linen"


def is_ours(implementation: str) -> bool:
    """As it comes or with options."""
    return implementation.split(" ")[0] == OURS


@dataclass(frozen=True)
class Row:
    """One implementation at one piece of work.

    seconds: of every timed run, in order; empty where ``reason`` says why there are none. error: the largest of its
    results relative to that result's norm, in ``quantity``; None where it did not get so far. ``differs``: it computes
    something else. memory in bytes and compile_seconds may be None: not known, nothing compiled.
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
        return is_ours(self.implementation)

    @property
    def work(self) -> tuple[Shape, str]:
        return self.shape, self.kind

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of the timed runs, the median in the middle; a single run is all three."""
        return quartiles(self.seconds)

    @property
    def median(self) -> float | None:
        return self.quartiles[1] if self.seconds else None

    @property
    def spread(self) -> float | None:
        """The distance of the quartiles, relative to the median."""
        if not self.seconds:
            return None
        low, middle, high = self.quartiles
        return (high - low) / middle


@dataclass(frozen=True)
class Result:
    """rows in the order in which they were measured; settings: of `settings.record`; sweep: T, H, B or ""."""

    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    sweep: str = ""

    @property
    def exit_code(self) -> int:
        """1: ours computes something else. 2: nothing was timed, or ours as it comes could not run. Else 0."""
        if any(row.differs and row.ours for row in self.rows):
            return 1
        broken = any(row.implementation == OURS and not row.seconds for row in self.rows)
        return 2 if broken or not any(row.seconds for row in self.rows) else 0


Base = Mapping[tuple[Shape, str], Row]


def base_rows(rows: Iterable[Row], unit: str = OURS) -> dict[tuple[Shape, str], Row]:
    """The timed rows of that implementation, by work: what others are compared with."""
    return {row.work: row for row in rows if row.implementation == unit and row.seconds}


def compared(row: Row, base: Base) -> Comparison | None:
    """Its times in units of those of `base_rows`; over 1 is slower. None where either is missing."""
    return compare(row.seconds, base[row.work].seconds) if row.seconds and row.work in base else None


def as_content(result: Result) -> dict[str, Any]:
    """Return the content of --json."""
    base = base_rows(result.rows)
    return {
        "ok": result.exit_code == 0,
        "reproduce": result.command,
        "sweep": result.sweep,
        "settings": dict(result.settings),
        "rows": [_row(row, base) for row in result.rows],
    }


def _row(row: Row, base: Base) -> dict[str, Any]:
    """Every field, and what follows from the times, for readers who do not want to compute it."""
    to_ours = compared(row, base)
    return {
        "implementation": row.implementation,
        "shape": dict(zip("TBDH", row.shape, strict=True)),
        "kind": row.kind,
        "feature": row.feature,
        "precision": row.precision,
        "version": row.version,
        "median": row.median,
        "spread": row.spread,
        "ratio": None if to_ours is None else to_ours.ratio,
        "quartiles": list(row.quartiles[::2]) if row.seconds else None,
        "fastest": min(row.seconds, default=None),
        "runs": len(row.seconds),
        "seconds": list(row.seconds),
        "compile_seconds": row.compile_seconds,
        "memory": row.memory,
        "error": row.error,
        "quantity": row.quantity,
        "differs": row.differs,
        "reason": row.reason,
    }


def from_content(content: Any) -> Result:
    """Return the result of which :func:`as_content` made ``content``. Raises ValueError if it is damaged."""
    try:
        rows = tuple(_read_row(row) for row in content["rows"])
        return Result(rows, content["settings"], content["reproduce"], content["sweep"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is a damaged result: {error!r}") from error


def _read_row(row: Mapping[str, Any]) -> Row:
    kept = (
        "implementation",
        "kind",
        "feature",
        "precision",
        "version",
        "compile_seconds",
        "memory",
        "quantity",
        "differs",
    )
    error = row["error"]
    return Row(
        shape=Shape(*(row["shape"][axis] for axis in "TBDH")),
        seconds=tuple(row["seconds"]),
        error=None if error is None else float(error),
        reason=row["reason"],
        **{name: row[name] for name in kept},
    )


def implementations_in(rows: Sequence[Row]) -> list[str]:
    """Names in the order of their first row."""
    return list(dict.fromkeys(row.implementation for row in rows))
