"""A short result in Markdown: training in units of torch.nn.LSTM's time, losses in bold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.conclusions import sentences, settings_line
from benchmarks.result import FLAX, OURS, TORCH, Result, Row, compared, implementations_in
from benchmarks.table import NONE, aligned, three_digits, title_of, units
from crosscheck.report.table import Table

KIND = "training"


def training_of(result: Result) -> Result:
    """Return only the training.

    Raises:
      ValueError: torch.nn.LSTM was not timed in it.
    """
    rows = tuple(row for row in result.rows if row.kind == KIND)
    if not compared(rows, TORCH):
        raise ValueError(f"{TORCH} was not timed in {KIND}, and its time is the unit")
    return replace(result, rows=rows)


def as_markdown(result: Result) -> str:
    """Return the table, how to read it, where ours is not faster, what was not timed, and the settings.

    Raises:
      ValueError: torch.nn.LSTM was not timed in training.
    """
    result = training_of(result)
    rows = result.rows
    names = [name for name in implementations_in([row for row in rows if row.seconds]) if name != TORCH]
    columns = ("T,B,D,H", f"{TORCH}, ms", f"{OURS}, ms", *names, "memory")
    shapes = dict.fromkeys(row.shape for row in rows)
    lines = tuple(_line([row for row in rows if row.shape == shape], names) for shape in shapes)
    legend = (
        f"{title_of(rows[0])}. Under each name its time in units of {TORCH}'s: above 1 is slower than torch. "
        f"memory: temporary memory of {OURS} in units of {FLAX}'s. "
        f"Bold are losses of {OURS}: its own figure above 1, and another's below its own, if the runs spread less than "
        "they differ. A figure has the digits that its spread supports."
    )
    conclusions = [line for line in sentences(result) if not line.startswith(f"{OURS} is faster than ")]
    table = _markdown(Table("", columns, lines, numeric=columns[1:]))
    return "\n\n".join([table, legend, *conclusions, *_untimed(rows), settings_line(result)])


def _line(rows: Sequence[Row], names: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of one shape."""
    by_name = {row.implementation: row for row in rows}
    times = [by_name[name].median if name in by_name else None for name in (TORCH, OURS)]
    to_ours, to_torch = compared(rows), compared(rows, TORCH)
    lost = {row: c.slower if row.ours else row in to_ours and to_ours[row].faster for row, c in to_torch.items()}
    texts = {row.implementation: _figure(units(c), lost[row]) for row, c in to_torch.items()}
    ours, flax = (by_name[name].memory if name in by_name else None for name in (OURS, FLAX))
    return (
        str(rows[0].shape),
        *(NONE if time is None else three_digits(time * 1e3) for time in times),
        *(texts.get(name, NONE) for name in names),
        NONE if ours is None or not flax else _figure(f"{ours / flax:.2f}", lost=ours > flax),
    )


def _figure(text: str, lost: bool) -> str:
    return f"**{text}**" if lost else text


def _markdown(table: Table) -> str:
    """Return a table in Markdown. All columns but the first are aligned on the right."""
    header, *rows = aligned(table)
    rule = ["-" * len(header[0]), *("-" * (len(name) - 1) + ":" for name in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _untimed(rows: Sequence[Row]) -> list[str]:
    """Return a sentence per implementation and reason."""
    shapes: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.seconds:
            shapes.setdefault((row.implementation, row.reason), []).append(str(row.shape))
    return [f"{name} was not timed at {'  '.join(at)}: {reason}" for (name, reason), at in shapes.items()]
