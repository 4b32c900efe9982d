"""Two implementations' runs compared: the ratio of their medians, the range that the runs leave for it, who is faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from benchmarks.timing import LEAST_RUNS

NOTCH = 1.57  # McGill, Tukey and Larsen, "Variations of box plots", 1978: median ± 1.57 IQR / √n


@dataclass(frozen=True)
class Comparison:
    """How many times as long one takes as the other: the ratio of the medians, and the range in which it may lie.

    The range is 0 to infinity if one of them has fewer than LEAST_RUNS runs: so few do not say how far they spread.
    """

    ratio: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        """The first one takes less time, and the whole range says so."""
        return self.high < 1

    @property
    def slower(self) -> bool:
        """The first one takes more time, and the whole range says so."""
        return self.low > 1

    @property
    def decided(self) -> bool:
        """No difference was measured if the range includes 1."""
        return self.faster or self.slower

    @property
    def enough(self) -> bool:
        """Both have the runs that a range needs."""
        return self.high < math.inf

    @property
    def inverse(self) -> Comparison:
        """The same, of the second in units of the first."""
        return Comparison(1 / self.ratio, 1 / self.high, 1 / self.low if self.low else math.inf)

    @property
    def decimals(self) -> int:
        """How many decimals of the ratio its range supports; negative if tens or hundreds are uncertain.

        The last digit has the place of the first digit of the distance to the nearer end. One digit always stands,
        and no more than 2 decimals, unless it takes more to tell a measured difference from none.
        """
        first = _place(self.ratio)
        finest = min(-2, first, _place(abs(self.ratio - 1)) if self.decided else 0)
        margin = min(self.ratio - self.low, self.high - self.ratio)
        place = _place(margin) if margin > 0 else finest
        return -max(place, finest)


def _place(value: float) -> int:
    """Of its first digit: 0 for units, -1 for tenths."""
    return math.floor(math.log10(value))


def compare(seconds: Sequence[float], others: Sequence[float]) -> Comparison:
    """Compares the runs of one implementation with the runs of another, both at least one.

    The range is from the lower end of the first's spread over the upper end of the other's to the reverse. So the
    range includes 1 if and only if both spreads overlap.

    Args:
        seconds: Times of one implementation's runs, over 0.
        others: Times of the other's.

    Returns:
        The first in units of the second.
    """
    ratio = quartiles(seconds)[1] / quartiles(others)[1]
    if min(len(seconds), len(others)) < LEAST_RUNS:
        return Comparison(ratio, 0.0, math.inf)
    (low, high), (other_low, other_high) = spread(seconds), spread(others)
    return Comparison(ratio, low / other_high, high / other_low)


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Return where the median may lie: the quartiles, and with few runs as far as the notch of a box plot goes.

    One run that was disturbed moves neither. No end is outside of what was measured.
    """
    low, median, high = quartiles(seconds)
    notch = NOTCH * (high - low) / math.sqrt(len(seconds))
    return max(min(low, median - notch), min(seconds)), min(max(high, median + notch), max(seconds))  # over 0


def quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles, the median in the middle; a single run is all three."""
    if len(seconds) < 2:
        return (seconds[0],) * 3
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    return low, middle, high
