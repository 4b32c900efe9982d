"""Arrays in files, for the tests that pass them between processes."""

from __future__ import annotations

from os import PathLike

import numpy as np


def read_npz(file: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Every array of an archive, by name. The file is closed: numpy leaves it open until the archive is collected."""
    with np.load(file) as archive:
        return dict(archive)
