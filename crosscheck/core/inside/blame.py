"""Which operation of a port rounds a quantity most, by location."""

from __future__ import annotations

import numpy as np

from crosscheck.core.inside.port_noise import Place
from crosscheck.core.inside.rounding import SMALL
from crosscheck.core.port import Port
from crosscheck.core.problem import Problem, Quantity


def most_amplified(port: Port, problem: Problem, quantity: Quantity, seed: int = 0) -> Place | None:
    """Return the place whose rounding changes a quantity most; None if the port has none.

    Each place gets errors of the same relative size, one place after the other.
    """
    exact = port.noisy(problem, 0.0, seed)[quantity]

    def change(place: Place) -> float:
        moved = port.noisy(problem, SMALL, seed, place)[quantity]
        return float(np.max(np.abs(moved - exact), initial=0.0))

    return max(port.places(problem), key=change, default=None)
