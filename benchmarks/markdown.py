"""A result in brief: training in units of torch.nn.LSTM's time, as a small table in Markdown, losses in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.result import FLAX, OURS, TORCH, Result, Row, base_rows, compared, implementations_in, is_ours
from benchmarks.sentences import sentences, settings_line
from benchmarks.table import NONE, three_digits, title_of, units

KIND = "training"


def training_of(result: Result) -> Result:
    """The training alone. Raises ValueError where torch.nn.LSTM was not timed in it."""
    rows = tuple(row for row in result.rows if row.kind == KIND)
    if not base_rows(rows, TORCH):
        raise ValueError(f"{TORCH} was not timed in {KIND}, and its time is the unit")
    return replace(result, rows=rows)


def as_markdown(result: Result) -> str:
    """Return the table, how to read it, where ours is slower or nothing was decided, what was not timed, the settings.

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
    told = [line for line in sentences(result) if not line.startswith(f"{OURS} is faster than ")]
    return "\n\n".join([_markdown([columns, *lines]), legend, *told, *_untimed(rows), settings_line(result)])


def _line(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The cells of one shape."""
    found = {row.implementation: row for row in rows}
    times = [found[name].median if name in found else None for name in (TORCH, OURS)]
    return [
        str(rows[0].shape),
        *(NONE if time is None else three_digits(time * 1e3) for time in times),
        *(_time(name, found) for name in names),
        _memory(found),
    ]


def _time(name: str, found: Mapping[str, Row]) -> str:
    """In units of torch's; bold if ours lost: to torch if it is our own, else to this one."""
    if name not in found or (to_torch := compared(found[name], base_rows(found.values(), TORCH))) is None:
        return NONE
    to_ours = compared(found[name], base_rows(found.values()))
    lost = to_torch.slower if is_ours(name) else to_ours is not None and to_ours.faster
    return _figure(units(to_torch), lost)


def _memory(found: Mapping[str, Row]) -> str:
    """Ours in units of Flax's; the same in every run."""
    ours, flax = (found[name].memory if name in found else None for name in (OURS, FLAX))
    return NONE if ours is None or not flax else _figure(f"{ours / flax:.2f}", lost=ours > flax)


def _figure(text: str, lost: bool) -> str:
    return f"**{text}**" if lost else text


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the header; all columns but the first stand on the right."""
    widths = [max(3, *(len(line[n]) for line in lines)) for n in range(len(lines[0]))]
    sides = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    padded = [[fit(cell, w) for fit, cell, w in zip(sides, line, widths, strict=True)] for line in lines]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def _untimed(rows: Sequence[Row]) -> list[str]:
    """A sentence for each implementation and reason."""
    shapes: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.seconds:
            shapes.setdefault((row.implementation, row.reason), []).append(str(row.shape))
    return [f"{name} was not timed at {'  '.join(at)}: {reason}" for (name, reason), at in shapes.items()]
