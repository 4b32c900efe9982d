"""Signs that look random and depend only on a number and a seed, so that equal numbers move equally.

Ties stay ties: a max-pool takes the same winner, and a difference of equal numbers stays zero. The multipliers are
those of the finalizer of splitmix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import numpy as np

FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
SAMPLE = 4096  # numbers among which ties are looked for


def signs_of(a: np.ndarray, seed: int) -> np.ndarray:
    """Return +1.0 or −1.0 per number of a float64 array."""
    with np.errstate(over="ignore"):
        bits = (np.asarray(a, np.float64).view(np.uint64) ^ np.uint64(seed)) * np.uint64(FIRST)
        bits = (bits ^ (bits >> np.uint64(31))) * np.uint64(SECOND)
    return 1.0 - 2.0 * (bits >> np.uint64(63)).astype(np.float64)


def is_short(a: np.ndarray) -> np.ndarray:
    """Return where a number has few bits, such as 1 or 0.25, so that no narrower type rounds it."""
    with np.errstate(over="ignore", invalid="ignore"):
        lifted = np.asarray(a, np.float64) * 2.0**6
        short: np.ndarray = (lifted == np.round(lifted)) & (np.abs(lifted) < 2.0**7) | ~np.isfinite(lifted)
    return short


def has_ties(a: np.ndarray) -> bool:
    """Return whether some numbers other than zero stand more than once among the first ones of an array."""
    some = np.ravel(a)[:SAMPLE]
    some = some[some != 0]
    return np.unique(some).size < some.size
