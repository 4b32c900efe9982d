"""Two norms, each with its exponent scaled out, so that squares of small numbers do not underflow.

Arrays are judged in rows: a whole tensor is one row, its slices are several.
"""

from __future__ import annotations

import numpy as np

NORMS = ("2-norm", "max-norm")


def row_norms(rows: np.ndarray) -> np.ndarray:
    """rows [m, n] -> [2, m], in the order of NORMS. A row with NaN or inf has norms NaN or inf."""
    scale = np.max(np.abs(rows), axis=1, initial=0.0)
    safe = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    scaled = rows / safe[:, None]
    with np.errstate(over="ignore", invalid="ignore"):  # a norm may overflow where the numbers do not
        euclid = safe * np.sqrt(np.einsum("mn,mn->m", scaled, scaled))
    return np.stack([np.where(np.isfinite(scale), euclid, scale), scale])


def norm(a: np.ndarray) -> float:
    """The 2-norm of all of an array."""
    return float(row_norms(np.reshape(np.asarray(a, np.float64), (1, -1)))[0, 0])
