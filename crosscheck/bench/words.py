"""A result in words: where ours is slower, losses said like wins, and under which settings."""

from __future__ import annotations

from collections.abc import Sequence

from crosscheck.bench.result import OURS, Result, Row, base_medians, competitors_in, ratio

SHOWN = ("date", "device", "processor", "cores", "jax threads", "torch threads", "precision", "jax", "torch")


def settings_line(result: Result) -> str:
    """The settings that most decide a time; the JSON has all of them."""
    return ", ".join(f"{name} {result.settings[name]}" for name in SHOWN if name in result.settings)


def sentences(result: Result) -> list[str]:
    """One for each competitor that was timed beside ours, then what could not be timed in ours."""
    base = base_medians(result.rows)
    others = [row for row in result.rows if not row.ours and ratio(row, base) is not None]
    found = [_against(name, [row for row in others if row.competitor == name], base) for name in competitors_in(others)]
    if base and not others:
        found.append(f"no competitor was timed beside {OURS}")
    found += [
        f"{row.competitor} at {row.shape} {row.kind}: {row.reason}" for row in result.rows if row.ours and row.differs
    ]
    return found


def _against(name: str, rows: Sequence[Row], base) -> str:
    ratios = {f"{row.shape} {row.kind}": ratio(row, base) or 0.0 for row in rows}
    ahead = {place: value for place, value in ratios.items() if value < 1}
    total = len(ratios)
    if not ahead:
        low, high = min(ratios.values()), max(ratios.values())
        times = f"{low:.2f} to {high:.2f} times" if total > 1 else f"{low:.2f} times"
        return f"{OURS} is not slower than {name} in any of {total}: {name} takes {times} as long"
    listed = ", ".join(f"{place} ({1 / value:.2f} times its time)" for place, value in ahead.items())
    return f"{OURS} is slower than {name} in {len(ahead)} of {total}: {listed}"
