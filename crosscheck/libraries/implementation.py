"""What a side is: a name, and how to run a case on it. And why one may have no answer to a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Arrays
from crosscheck.lstm.cases import Case, TextCase

Runner = Callable[..., Arrays]  # (problem, dtype, **options of run_torch on the torch sides)


@dataclass(frozen=True)
class Side:
    """``runner(case)`` gives a function of (problem, dtype) that returns named outputs and gradients.

    package: the distribution whose version belongs to its results. dtypes: those that the side can compute in.
    gradients: whether it has any; without, outputs alone are judged.
    """

    name: str
    runner: Callable[[Case], Runner]
    package: str = ""
    dtypes: tuple[str, ...] = ("float64", "float32")
    gradients: bool = True


class NotSupported(CouldNotRun):
    """The library has no such network."""


class NotInstalled(CouldNotRun):
    """The library is not there."""


def features(case: Case) -> list[str]:
    """What a case asks for beyond one layer in one direction over a batch, batch first, with biases."""
    if isinstance(case, TextCase):
        return ["layers"] * (case.num_layers > 1) + ["text"]
    asked = {
        "RNN": case.kind == "rnn",
        "projection": case.proj_size > 0,
        "lengths": case.lengths is not None,
        "directions": case.bidirectional,
        "layers": case.num_layers > 1,
        "no bias": not case.bias,
        "time-major": case.time_major,
        "no batch": case.batch is None,
    }
    return [name for name, is_asked in asked.items() if is_asked]


def require(case: Case, lacking: dict[str, str]) -> None:
    """Raises NotSupported where the case asks for what a library lacks: ``lacking`` has features and reasons."""
    for name in features(case):
        if name in lacking:
            raise NotSupported(lacking[name])
