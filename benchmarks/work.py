"""One piece of work, the same for every implementation: weights, inputs, cotangents, and what must come out.

Everything is drawn from the shape alone. Inputs are time-major, the layout that every library but one can take; who
must transpose does so before the clock starts. In a narrow precision the arrays are rounded to it here, so that casting
them is exact and every implementation, and the reference, starts from the same numbers.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.shapes import Shape

Arrays = dict[str, np.ndarray]
KINDS = ("forward", "training")
FEATURES = ("plain", "lengths", "projection", "bidirectional", "layers")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
LAYERS = 2


@dataclass(frozen=True, eq=False)
class Work:
    """``weights``: a torch.nn.LSTM state dict. x ``[T, B, D]``, cotangent ``[T, B, P * directions]``, lengths int [B].

    kind "forward" asks for y; "training" for the loss, the sum of y times the cotangent, and its gradients with respect
    to x and all weights.
    """

    shape: Shape
    kind: str
    feature: str
    precision: str
    weights: Arrays
    x: np.ndarray
    cotangent: np.ndarray
    lengths: np.ndarray | None

    @property
    def dtype(self) -> str:
        return "float32" if self.precision == "tf32" else self.precision

    @property
    def layers(self) -> int:
        return LAYERS if self.feature == "layers" else 1

    @property
    def bidirectional(self) -> bool:
        return self.feature == "bidirectional"

    @property
    def proj_size(self) -> int:
        return max(self.shape.hidden // 2, 1) if self.feature == "projection" and self.shape.hidden > 1 else 0


def make_work(shape: Shape, kind: str, feature: str = "plain", precision: str = "float32") -> Work:
    """The work of a shape; the same arrays every time."""
    rng = np.random.default_rng([*shape, FEATURES.index(feature)])
    bare = Work(shape, kind, feature, precision, {}, np.empty(0), np.empty(0), None)
    lstm = torch_lstm(bare, device="meta")
    bound = 1 / np.sqrt(shape.hidden)
    weights = {name: rng.uniform(-bound, bound, tuple(p.shape)) for name, p in lstm.named_parameters()}
    width = (bare.proj_size or shape.hidden) * (2 if bare.bidirectional else 1)
    x = rng.normal(size=(shape.steps, shape.batch, shape.inputs))
    cotangent = rng.normal(size=(shape.steps, shape.batch, width))
    lengths = None
    if feature == "lengths":
        lengths = rng.integers(max(shape.steps // 4, 1), shape.steps + 1, shape.batch)
        lengths[0] = shape.steps
        cotangent *= (np.arange(shape.steps)[:, None] < lengths)[..., None]
    rounded = {name: _rounded(a, bare.dtype) for name, a in weights.items()}
    return Work(
        shape, kind, feature, precision, rounded, _rounded(x, bare.dtype), _rounded(cotangent, bare.dtype), lengths
    )


def _rounded(a: np.ndarray, dtype: str) -> np.ndarray:
    """float32, of values that ``dtype`` holds exactly."""
    return torch.tensor(a).to(getattr(torch, dtype)).to(torch.float32).numpy()


def torch_lstm(work: Work, device: str = "cpu", dtype: torch.dtype = torch.float32) -> torch.nn.LSTM:
    """torch.nn.LSTM of the work's sizes, with the work's weights where it has any; time-major."""
    lstm = torch.nn.LSTM(
        work.shape.inputs,
        work.shape.hidden,
        work.layers,
        bidirectional=work.bidirectional,
        proj_size=work.proj_size,
        device=device,
        dtype=dtype,
    )
    if work.weights:
        with torch.no_grad():
            for name, parameter in lstm.named_parameters():
                parameter.copy_(torch.from_numpy(work.weights[name]))
        lstm.flatten_parameters()
    return lstm


def torch_outputs(lstm: torch.nn.Module, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """y [T, B, ...]; with lengths through torch's packing, outputs past a row's end zero."""
    if lengths is None:
        return lstm(x)[0]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], total_length=x.shape[0])[0]


def reference(work: Work, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Arrays:
    """What must come out, from torch.nn.LSTM: y, and for training the loss and its gradients, by name."""
    lstm = torch_lstm(work, device, dtype)
    x = torch.tensor(work.x, requires_grad=True, device=device, dtype=dtype)
    lengths = None if work.lengths is None else torch.from_numpy(work.lengths)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        if work.kind == "forward":
            with torch.no_grad():
                return {"y": torch_outputs(lstm, x, lengths).cpu().numpy()}
        y = torch_outputs(lstm, x, lengths)
        loss = (y * torch.from_numpy(work.cotangent).to(device, dtype)).sum()
        names, parameters = zip(*lstm.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, (x, *parameters))
    named = zip(("grad x", *(f"grad {name}" for name in names)), gradients, strict=True)
    found = {"y": y.detach(), "loss": loss.detach()} | dict(named)
    return {name: a.cpu().numpy() for name, a in found.items()}
