"""What an implementation is: a name, how to run a case on it, and why it may have no answer to a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Results
from crosscheck.lstm.cases import Case, TextCase

Runner: TypeAlias = Callable[..., Results]  # (problem, dtype); with torch, also options of run_torch


@dataclass(frozen=True)
class Implementation:
    """One implementation.

    Attributes:
      name: its name.
      runner: ``runner(case)`` returns a function of (problem, dtype) that computes outputs and gradients.
      package: the distribution whose version belongs to its results.
      dtypes: the dtypes in which it can compute.
      gradients: whether it has gradients. Without them only outputs are judged.
    """

    name: str
    runner: Callable[[Case], Runner]
    package: str = ""
    dtypes: tuple[str, ...] = ("float64", "float32")
    gradients: bool = True


class NotSupported(CouldNotRun):
    """The library has no such network."""


class NotInstalled(CouldNotRun):
    """The library is not installed."""


def features(case: Case) -> list[str]:
    """Return what a case asks for beyond one layer in one direction over a batch, batch first, with biases."""
    if isinstance(case, TextCase):
        return [*features(case.lstm), "text"]
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


def require(case: Case, lacking: Mapping[str, str]) -> None:
    """Check that a library has all that a case asks for.

    Args:
      case: the case.
      lacking: features that the library lacks, and the reasons.

    Raises:
      NotSupported: it lacks a feature.
    """
    for name in features(case):
        if name in lacking:
            raise NotSupported(lacking[name])
