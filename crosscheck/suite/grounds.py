"""Lines about quantities that agree although little of them was compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crosscheck.core.finding import Finding, Grounds, Outcome

MOST = 4  # quantities that a line names
WIDE = 0.1  # a relative limit beyond which a check that rounding explains compares almost nothing


def little_compared(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each way in which quantities agree without much of a comparison."""
    zero = _quantities(f for f in findings if f.grounds is Grounds.ZERO)
    if zero:
        yield (
            f"{zero}: zero within rounding, so that a port without it passes. If it should not be zero, use random "
            "cotangents, or weights away from their start"
        )
    constants = _quantities(f for f in findings if f.grounds is Grounds.CONSTANTS)
    if constants:
        yield (
            f"{constants}: an error of the size of constants that are rounded to float32 in one of the two, such as a "
            "buffer: give them in float64 on both sides, such as with buffers="
        )
    integers = _quantities(f for f in findings if f.grounds is Grounds.INTEGERS)
    if integers:
        yield f"{integers}: the port's integers have fewer bits than torch's: larger values would overflow"
    small = [f for f in findings if f.too_small and f.final is Outcome.AGREE]
    if small:
        count = sum(f.too_small for f in small)
        yield (
            f"{_quantities(iter(small))}: numbers ({count}) are so small beside the largest of their array that a port "
            "with zeros in their place passes. If they matter, compare them by themselves"
        )
    noise = _quantities(f for f in findings if f.settled_by and f.limit is not None and f.limit > WIDE)
    if noise:
        yield f"{noise}: rounding leaves nothing of it in a narrower dtype, so that only float64 compares it"


def _quantities(findings: Iterator[Finding]) -> str:
    names = list(dict.fromkeys(str(f.quantity) for f in findings if f.final is Outcome.AGREE))
    return ", ".join(names[:MOST]) + f" and {len(names) - MOST} more" * (len(names) > MOST)
