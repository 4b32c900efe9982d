"""Two norms that do not underflow: the exponent of the largest number is scaled out before squaring."""

from __future__ import annotations

import numpy as np

NORMS = ("2-norm", "max-norm")


def row_norms(rows: np.ndarray) -> np.ndarray:
    """Return both norms of each row.

    Args:
      rows: ``[m, n]``.

    Returns:
      ``[2, m]``, in the order of ``NORMS``. A row with NaN or inf has norms NaN or inf.
    """
    scale = np.max(np.abs(rows), axis=1, initial=0.0)
    safe = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    scaled = rows / safe[:, None]
    with np.errstate(over="ignore", invalid="ignore"):  # a norm may overflow if the numbers do not
        euclid = safe * np.sqrt(np.einsum("mn,mn->m", scaled, scaled))
    return np.stack([np.where(np.isfinite(scale), euclid, scale), scale])


def norm(a: np.ndarray) -> float:
    """Return the 2-norm of all numbers of an array."""
    return float(row_norms(np.reshape(np.asarray(a, np.float64), (1, -1)))[0, 0])
