"""A short result in Markdown: training in units of torch.nn.LSTM's time, losses in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.conclusions import sentences, settings_line
from benchmarks.result import FLAX, OURS, TORCH, Result, Row, base_rows, compared, implementations_in, is_ours
from benchmarks.table import NONE, three_digits, title_of, units

KIND = "training"


def training_of(result: Result) -> Result:
    """Return only the training.

    Raises:
      ValueError: torch.nn.LSTM was not timed in it.
    """
    rows = tuple(row for row in result.rows if row.kind == KIND)
    if not base_rows(rows, TORCH):
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
    columns = ["T,B,D,H", f"{TORCH}, ms", f"{OURS}, ms", *names, "memory"]
    shapes = dict.fromkeys(row.shape for row in rows)
    lines = [_line([row for row in rows if row.shape == shape], names) for shape in shapes]
    legend = (
        f"{title_of(rows[0])}. Under each name its time in units of {TORCH}'s: above 1 is slower than torch. "
        f"memory: temporary memory of {OURS} in units of {FLAX}'s. "
        f"Bold are losses of {OURS}: its own figure above 1, and another's below its own, if the runs spread less than "
        "they differ. A figure has the digits that its spread supports."
    )
    conclusions = [line for line in sentences(result) if not line.startswith(f"{OURS} is faster than ")]
    return "\n\n".join([_markdown([columns, *lines]), legend, *conclusions, *_untimed(rows), settings_line(result)])


def _line(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return the cells of one shape."""
    by_name = {row.implementation: row for row in rows}
    times = [by_name[name].median if name in by_name else None for name in (TORCH, OURS)]
    return [
        str(rows[0].shape),
        *(NONE if time is None else three_digits(time * 1e3) for time in times),
        *(_time(name, by_name) for name in names),
        _memory(by_name),
    ]


def _time(name: str, by_name: Mapping[str, Row]) -> str:
    """Return a time in units of torch's. It is bold if ours lost: our own time to torch, another one to this one."""
    if name not in by_name or (to_torch := compared(by_name[name], base_rows(by_name.values(), TORCH))) is None:
        return NONE
    to_ours = compared(by_name[name], base_rows(by_name.values()))
    lost = to_torch.slower if is_ours(name) else to_ours is not None and to_ours.faster
    return _figure(units(to_torch), lost)


def _memory(by_name: Mapping[str, Row]) -> str:
    """Return our memory in units of Flax's. It is the same in every run."""
    ours, flax = (by_name[name].memory if name in by_name else None for name in (OURS, FLAX))
    return NONE if ours is None or not flax else _figure(f"{ours / flax:.2f}", lost=ours > flax)


def _figure(text: str, lost: bool) -> str:
    return f"**{text}**" if lost else text


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table of lines, the header first. All columns but the first are aligned on the right."""
    widths = [max(3, *(len(line[n]) for line in lines)) for n in range(len(lines[0]))]
    align = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    padded = [[pad(cell, w) for pad, cell, w in zip(align, line, widths, strict=True)] for line in lines]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def _untimed(rows: Sequence[Row]) -> list[str]:
    """Return a sentence per implementation and reason."""
    shapes: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.seconds:
            shapes.setdefault((row.implementation, row.reason), []).append(str(row.shape))
    return [f"{name} was not timed at {'  '.join(at)}: {reason}" for (name, reason), at in shapes.items()]
