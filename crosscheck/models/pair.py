"""A right pair of a model that is no LSTM, and a mistake in it, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Drawn:
    """One random problem of a pair: the arguments of `crosscheck.check`.

    Attributes:
      port: ``port(params, *inputs)`` in JAX.
      module: the torch module.
      inputs: a tuple of pytrees of NumPy arrays.
      options: other keyword arguments of `crosscheck.check`, such as ``torch_fn`` or ``train``.
    """

    port: Callable[..., Any]
    module: torch.nn.Module
    inputs: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The module's parameters by name."""
        return {name: p.detach().numpy() for name, p in self.module.named_parameters()}


@dataclass(frozen=True)
class ModelPair:
    """A torch module and a JAX function of the same mathematics.

    Attributes:
      name: unique, in lower case with hyphens, such as "group-norm".
      what: what the pair is, in one short sentence.
      draw: draws a random problem: sizes, options, weights and inputs.
    """

    name: str
    what: str
    draw: Callable[[np.random.Generator], Drawn]


@dataclass(frozen=True)
class Mistake:
    """A mistake in a pair.

    Attributes:
      name: unique, such as "group-norm-eps".
      pair: the name of the pair.
      what: what is wrong, in one short sentence.
      change: returns the drawn problem with the mistake in it.
      hidden_by: why the inputs of the changed problem cannot show the mistake; "" if they can.
      answer: a part of the line or the vacuous finding that says so; "" if nothing hides the mistake.
    """

    name: str
    pair: str
    what: str
    change: Callable[[Drawn], Drawn]
    hidden_by: str = ""
    answer: str = ""

    def __post_init__(self) -> None:
        """Check that a hidden mistake has an answer, and no other one.

        Raises:
          ValueError: it has only one of the two.
        """
        if bool(self.hidden_by) != bool(self.answer):
            raise ValueError(f"mistake {self.name!r}: hidden_by and answer must both be given, or neither")


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let torch draw its initial weights from ``rng``, and leave torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        yield


class Calls(torch.nn.Module):
    """A module of named parts whose forward is a function of the module and the inputs."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        """Return ``function(self, *inputs)``."""
        return self.function(self, *inputs)
