"""One piece of work, the same for every implementation: weights, inputs, cotangents, and the right results.

The shape seeds the draw of all arrays. Inputs are time-major, which every library but one accepts. For that library
they are transposed before the timing starts. In a narrow precision the arrays are rounded to it here. So casting them
is exact, and every implementation and the reference start from the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.options import FEATURES, Feature, Precision
from benchmarks.shapes import Shape
from crosscheck.core.problem import Arrays, Gradient, Quantity, Results
from crosscheck.libraries.torch_nn import run_packed
from crosscheck.libraries.torch_ref import build
from crosscheck.lstm.cases import RecurrentCase


@dataclass(frozen=True, eq=False)
class Work:
    """A network with its weights and inputs, and what to compute.

    Attributes:
      shape: the sizes.
      kind: "forward" computes y. "training" computes the loss, which is the sum of y times the cotangent, and its
        gradients with respect to x and all weights.
      feature: what the network has instead of one plain layer.
      precision: of every implementation.
      case: the network, as the adapters of `crosscheck.libraries` take it, without its lengths.
      dtype: of weights, x and y.
      weights: a torch.nn.LSTM state dict.
      x: ``[T, B, D]``.
      cotangent: ``[T, B, directions * P]``.
      lengths: int ``[B]`` or None. They are on the CPU, as torch's packing requires.
    """

    shape: Shape
    kind: str
    feature: str
    precision: str
    case: RecurrentCase
    dtype: str
    weights: Arrays
    x: np.ndarray
    cotangent: np.ndarray
    lengths: torch.Tensor | None


def make_work(shape: Shape, kind: str, feature: Feature = "plain", precision: Precision = "float32") -> Work:
    """Return the work of a shape: the same arrays every time."""
    steps, batch, inputs, hidden = shape
    options: dict[str, dict[str, Any]] = {
        "projection": {"proj_size": hidden // 2},
        "bidirectional": {"bidirectional": True},
        "layers": {"num_layers": 2},
    }
    case = RecurrentCase("", "", batch, steps, inputs, hidden, time_major=True, **options.get(feature, {}))
    rng = np.random.default_rng([*shape, FEATURES.index(feature)])
    bound = 1 / np.sqrt(hidden)
    weights = {name: rng.uniform(-bound, bound, size) for name, size in case.shapes().items()}
    x = rng.normal(size=(steps, batch, inputs))
    cotangent = rng.normal(size=(steps, batch, case.output_size * len(case.suffixes)))
    lengths = None
    if feature == "lengths":
        lengths = torch.from_numpy(rng.integers(max(steps // 4, 1), steps + 1, batch))
        lengths[0] = steps
        cotangent *= (np.arange(steps)[:, None] < lengths.numpy())[..., None]
    dtype = "float32" if precision == "tf32" else precision
    rounded = lambda a: torch.tensor(a).to(getattr(torch, dtype)).float().numpy()  # float32, of values that dtype has
    weights = {name: rounded(a) for name, a in weights.items()}
    return Work(shape, kind, feature, precision, case, dtype, weights, rounded(x), rounded(cotangent), lengths)


def torch_module(
    work: Work,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    lstm: type[torch.nn.Module] = torch.nn.LSTM,
) -> torch.nn.Module:
    """Return the network with its weights, as a class that has torch.nn.LSTM's constructor."""
    module = build(work.case, lstm, torch.nn.RNN)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in work.weights.items()})
    return module.to(device, dtype)


def torch_outputs(work: Work, lstm: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return y ``[T, B, directions * P]`` of torch.nn.LSTM. Lengths are passed by torch's packing."""
    return lstm(x)[0] if work.lengths is None else run_packed(lstm, x, None, work.lengths, time_major=True)[0]


def reference(work: Work, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Results:
    """Return torch.nn.LSTM's results: y, and for training the loss and its gradients."""
    lstm = torch_module(work, device, dtype)
    x = torch.tensor(work.x, requires_grad=True, device=device, dtype=dtype)
    with torch.set_grad_enabled(work.kind == "training"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        y = torch_outputs(work, lstm, x)
        if work.kind == "forward":
            return {"y": y.cpu().numpy()}
        loss = (y * torch.from_numpy(work.cotangent).to(device, dtype)).sum()
        names, parameters = zip(*lstm.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, (x, *parameters))
    results = dict(zip(training_results(names), (loss.detach(), *gradients), strict=True)) | {"y": y.detach()}
    return {name: a.cpu().numpy() for name, a in results.items()}


def training_results(parameters: Iterable[str]) -> list[Quantity]:
    """Return the results of training in order: the loss, and its gradients with respect to x and to each parameter."""
    return ["loss", Gradient("x"), *map(Gradient, parameters)]
