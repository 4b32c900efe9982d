"""The expected content of a checkpoint file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Network:
    """A network as its own framework has it: its weights by torch's names, and its outputs y of x, time in axis 1."""

    params: dict[str, np.ndarray]
    run: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Example:
    """A file, and the networks in it by prefix. ``refused`` is a part of the reason if there is no readable one."""

    path: Path
    networks: dict[str, Network]
    refused: str = ""
