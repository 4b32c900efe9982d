"""The expected content of a checkpoint file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Network:
    """A network as its own framework computes it: weights by torch's names, and outputs y of x. Axis 1 is time."""

    params: dict[str, np.ndarray]
    run: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Example:
    """A file, and its networks by prefix. If no network is readable, ``refused`` is a part of the reason."""

    path: Path
    networks: dict[str, Network]
    refused: str = ""
