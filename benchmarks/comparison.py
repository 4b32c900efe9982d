"""Compares the runs of two implementations: the ratio of their medians, its range, and who is faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from benchmarks.timing import LEAST_RUNS

NOTCH = 1.57  # McGill, Tukey and Larsen, "Variations of box plots", 1978: median ± 1.57 IQR / √n


@dataclass(frozen=True)
class Comparison:
    """The time of one implementation relative to another's: the ratio of the medians, and the range of this ratio.

    The range is 0 to infinity if one of them has fewer than LEAST_RUNS runs. Their spread is then unknown.
    """

    ratio: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        """Whether the first one takes less time, over the whole range."""
        return self.high < 1

    @property
    def slower(self) -> bool:
        """Whether the first one takes more time, over the whole range."""
        return self.low > 1

    @property
    def decided(self) -> bool:
        """Whether a difference was measured: the range excludes 1."""
        return self.faster or self.slower

    @property
    def enough(self) -> bool:
        """Whether both have enough runs for a range."""
        return self.high < math.inf

    @property
    def inverse(self) -> Comparison:
        """The comparison of the second in units of the first."""
        return Comparison(1 / self.ratio, 1 / self.high, 1 / self.low if self.low else math.inf)

    @property
    def decimals(self) -> int:
        """The decimals of the ratio that its range supports: negative if tens or hundreds are uncertain.

        The last digit has the same place as the first digit of the distance to the nearer end of the range. The ratio
        has at least one digit. It has at most 2 decimals, unless a measured difference needs more to differ from 1.
        """
        first = _place(self.ratio)
        finest = min(-2, first, _place(abs(self.ratio - 1)) if self.decided else 0)
        margin = min(self.ratio - self.low, self.high - self.ratio)
        place = _place(margin) if margin > 0 else finest
        return -max(place, finest)


def _place(value: float) -> int:
    """Return the place of the first digit: 0 for units, -1 for tenths."""
    return math.floor(math.log10(value))


def compare(seconds: Sequence[float], others: Sequence[float]) -> Comparison:
    """Return one implementation in units of another.

    The lower end of the range is the lower end of the first spread over the upper end of the second. The upper end is
    the reverse. So the range includes 1 if and only if both spreads overlap.

    Args:
      seconds: the times of the first one's runs, at least one, over 0.
      others: the times of the second one's runs.
    """
    ratio = quartiles(seconds)[1] / quartiles(others)[1]
    if min(len(seconds), len(others)) < LEAST_RUNS:
        return Comparison(ratio, 0.0, math.inf)
    (low, high), (other_low, other_high) = spread(seconds), spread(others)
    return Comparison(ratio, low / other_high, high / other_low)


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the range of the median: the quartiles, or with few runs the ends of a box plot's notch.

    One disturbed run moves neither end. Neither end is outside of the measured times.
    """
    low, median, high = quartiles(seconds)
    notch = NOTCH * (high - low) / math.sqrt(len(seconds))
    return max(min(low, median - notch), min(seconds)), min(max(high, median + notch), max(seconds))  # over 0


def quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles. The middle one is the median. With a single run all three are its time."""
    if len(seconds) < 2:
        return (seconds[0],) * 3
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return low, middle, high
