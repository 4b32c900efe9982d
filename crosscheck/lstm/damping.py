"""The damped network: the whole sequence with smaller recurrent weights, in place of one that is chaotic.

It shows what no stretch of teacher forcing can see: a mistake that depends on the position in the whole sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crosscheck.core.problem import Problem

HALVINGS = 6


def damped(problem: Problem, is_undecided: Callable[[Problem], bool]) -> Problem | None:
    """Return the problem with recurrent weights halved until it can be decided; None if it never can."""
    for halvings in range(1, HALVINGS + 1):
        params = {n: a / 2**halvings if "weight_hh" in n else a for n, a in problem.params.items()}
        candidate = replace(problem, params=params)
        if not is_undecided(candidate):
            return candidate
    return None
