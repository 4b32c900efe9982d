"""The sides of a cross-check. A side is one file with one interface and one line in the table below.

``runner(case)`` gives a function of (problem, dtype) that returns named outputs and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crosscheck.cases import Case
from crosscheck.problem import Arrays
from crosscheck.sides import jax_lstm, torch_nn, torch_ref

Runner = Callable[..., Arrays]  # (problem, dtype, **options of run_torch on the torch sides)


@dataclass(frozen=True)
class Side:
    name: str
    runner: Callable[[Case], Runner]


SIDES: dict[str, Side] = {
    side.name: side
    for side in (
        Side("jax_lstm", jax_lstm.runner),
        Side("torch_ref", torch_ref.runner),
        Side("torch.nn.LSTM", torch_nn.runner),
    )
}
