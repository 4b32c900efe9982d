"""Exponential rates: the fitted factor per step of a product of Jacobians, and what predicts it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FIRST, LAST = 0.1, 0.9  # fractions of the sequence: the states and the adjoint settle outside of it


@dataclass(frozen=True)
class Fit:
    """A line through the binary logarithms of a norm, by least squares.

    Attributes:
      factor: the factor per step going back; 0 if a number is zero.
      spread: the largest distance from the line, in powers of two; infinite if a number is zero.
      first: the first step that was fitted.
      last: the last step that was fitted.
    """

    factor: float
    spread: float
    first: int
    last: int


def fit(log2: np.ndarray) -> Fit:
    """Fit ``log2``, `[m]`, which stands at the time steps 0, 1, ..."""
    end = log2.size - 1
    low, high = math.ceil(FIRST * end), math.floor(LAST * end)
    y = log2[low : high + 1]
    if not np.isfinite(y).all() or y.size < 2:
        return Fit(0.0 if np.isneginf(y).any() else math.nan, math.inf, low, high)
    t = np.arange(y.size)
    slope, intercept = np.polyfit(t, y, 1)
    return Fit(float(2.0**-slope), float(np.max(np.abs(y - slope * t - intercept))), low, high)


def spectral_radius(matrix: np.ndarray) -> float:
    """Return the largest absolute eigenvalue."""
    return float(np.max(np.abs(np.linalg.eigvals(matrix))))


def predicted_factor(w_hh: np.ndarray, h: np.ndarray, nonlinearity: str) -> float:
    """Return ρ(diag(mean_t φ'(a_t)) W_hh), the rate if every step were the mean one. ``h`` is `[T, H]`."""
    slope = 1 - h**2 if nonlinearity == "tanh" else (h > 0).astype(np.float64)
    return spectral_radius(slope.mean(axis=0)[:, None] * w_hh)


def decimal(log2: float) -> str:
    """Return 2**log2 as a decimal such as 1.5e-422, which no float can hold. An exact zero is "0"."""
    if not math.isfinite(log2):
        return {math.inf: "inf", -math.inf: "0"}.get(log2, "nan")
    value = log2 * math.log10(2)
    if -3 <= value < 4:
        return f"{10**value:.2g}"
    power = math.floor(value)
    mantissa = f"{10 ** (value - power):.1f}"
    if mantissa == "10.0":
        power, mantissa = power + 1, "1.0"
    return f"{mantissa}e{power:+03d}"
