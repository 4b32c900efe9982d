"""The torch module of a pair: the truth, its float32 paths, and runs with errors inside."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from crosscheck.core.inside.torch_modes import Lift, Noise
from crosscheck.core.problem import Problem, Results, canonical, real_pairs
from crosscheck.core.signs import is_short, signs_of
from crosscheck.core.torch_runner import TorchFn, flushed_subnormals, run_torch


@dataclass(frozen=True)
class TorchSide:
    """Runs the torch module of a pair.

    Attributes:
      module: the module.
      torch_fn: called as ``torch_fn(module, *inputs, **kwargs)``.
      options: the options of `run_torch`.
      lifts: narrow types inside the module are computed in float64 in place of what the module asks for.
      unused: the names whose gradient torch gave as None.
      inexact: operations that are inexact in float64, and their relative errors. It is known after a noisy run.
    """

    module: torch.nn.Module
    torch_fn: TorchFn
    options: Mapping[str, Any]
    lifts: bool
    unused: list[str] = field(default_factory=list)
    inexact: dict[str, float] = field(default_factory=dict)

    def truth(self, problem: Problem) -> Results:
        """Return the results in float64."""
        return self._in_float64(problem, 0.0, 0, self.unused)

    def noisy(self, problem: Problem, size: float, seed: int) -> Results:
        """Return the results in float64 with a relative error of ``size`` in every operation."""
        return self._in_float64(problem, size, seed)

    def in_dtype(self, problem: Problem, dtype: str, onednn: bool = True, subnormal: bool = True) -> Results:
        """Return the results in another dtype, as the module computes them.

        Args:
          problem: the problem.
          dtype: the dtype.
          onednn: use oneDNN.
          subnormal: keep numbers below the smallest normal number. XLA treats them as zero.
        """
        with nullcontext() if subnormal else flushed_subnormals():
            return run_torch(self.module, problem, dtype, torch_fn=self.torch_fn, onednn=onednn, **self.options)

    def forward(self, problem: Problem, buffers: Mapping[str, Any] | None = None) -> list[np.ndarray]:
        """Return the outputs in float64 as the module computes them, narrow types included.

        Args:
          problem: the problem.
          buffers: arrays that replace more of the module's buffers.
        """
        seen: list[list[np.ndarray]] = []

        def call(*arguments: Any, **kwargs: Any) -> tuple[()]:
            outputs = self.torch_fn(*arguments, **kwargs)
            seen.append([real_pairs(canonical(o if o.layout is torch.strided else o.to_dense())) for o in outputs])
            return ()

        options = {**self.options, "buffers": {**(self.options.get("buffers") or {}), **(buffers or {})}}
        forward = replace(problem, output_names=(), cotangents=(), tangents={})
        run_torch(self.module, forward, "float64", torch_fn=call, **options)
        return seen[0]

    def with_moved_constants(self, problem: Problem, size: float, seed: int) -> Results:
        """Return the results in float64 with the module's own constants moved by a relative ``size``."""
        move = lambda a: np.where(is_short(a), a, a * (1 + size * signs_of(a, seed)))
        modes = [Lift()] * self.lifts
        return run_torch(
            self.module, problem, "float64", torch_fn=self.torch_fn, modes=modes, move=move, **self.options
        )

    def _in_float64(self, problem: Problem, size: float, seed: int, unused: list[str] | None = None) -> Results:
        noise = [Noise(size, seed)] * bool(size)
        modes = [*noise, *[Lift()] * self.lifts]
        results = run_torch(
            self.module, problem, "float64", torch_fn=self.torch_fn, modes=modes, unused=unused, **self.options
        )
        for mode in noise:
            self.inexact.update(mode.inexact)
        return results
