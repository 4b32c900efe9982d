"""Faults of the cell: its equations and its activations."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from crosscheck.faults.fault import At, Fault, wrong_outputs
from crosscheck.faults.parts import cell_update, open_step, unchanged
from torch_ref.cell import State, Weights

CELL_CLIP = 0.25  # c exceeds this within a few steps if inputs have unit size


def rational_tanh(z: Tensor) -> Tensor:
    """Return Lambert's continued fraction for tanh up to the fifth power: error 5e-8 up to |z| = 1, 2e-5 up to 2.

    It reaches ±1 at |z| = 3.64 and is constant beyond.
    """
    z = z.clamp(-3.64, 3.64)
    s = z * z
    return z * (945 + s * (105 + s)) / (945 + s * (420 + 15 * s))


def table_tanh(z: Tensor) -> Tensor:
    """Return tanh from a table of 32 entries per unit, with linear interpolation: error below 1e-4 everywhere."""
    position = 32 * z
    entry = position.detach().floor()
    low, high = torch.tanh(entry / 32), torch.tanh((entry + 1) / 32)
    return low + (position - entry) * (high - low)


def hard_sigmoid(z: Tensor) -> Tensor:
    """Return clip(0.2 z + 0.5, 0, 1)."""
    return torch.clamp(0.2 * z + 0.5, 0.0, 1.0)


def _cell(name: str, departure: str, **parts: Any) -> Fault:
    """Return a fault whose step has other parts, by the names of `open_step`."""
    return wrong_outputs(name, departure, step=partial(open_step, **parts))


def _h_from_old_c(w: Weights, x: Tensor, state: State, at: At) -> State:
    return open_step(w, x, state, squash=lambda new: torch.tanh(state[1]))


def _clipped_update(i: Tensor, f: Tensor, g: Tensor, c: Tensor) -> Tensor:
    return torch.clamp(cell_update(i, f, g, c), -CELL_CLIP, CELL_CLIP)


FAULTS = (
    _cell("hard-sigmoid", "the hard sigmoid clip(0.2 z + 0.5, 0, 1)", sigmoid=hard_sigmoid),
    _cell("rational-tanh", "a rational tanh with an error of 2e-5 up to |z| = 2", tanh=rational_tanh),
    _cell("table-tanh", "a tanh from a table, with an error below 1e-4", tanh=table_tanh),
    _cell(
        "table-sigmoid",
        "a sigmoid made of a tanh from a table, with an error below 5e-5",
        sigmoid=lambda z: 0.5 + 0.5 * table_tanh(0.5 * z),
    ),
    _cell("no-tanh-of-c", "h = o c, without the tanh of c", squash=unchanged),
    _cell("no-tanh-of-g", "no tanh of g", tanh=unchanged, squash=torch.tanh),
    _cell("sigmoid-of-g", "a sigmoid in place of the tanh of g", tanh=torch.sigmoid, squash=torch.tanh),
    _cell("cell-clip", f"c clipped to ±{CELL_CLIP}", update=_clipped_update),
    _cell("coupled-gates", "the input gate 1 - f", gates=lambda i, f, g, o: (1 - f, f, g, o)),
    _cell("forget-gate-on-all", "c' = f (c + i g)", update=lambda i, f, g, c: f * (c + i * g)),
    wrong_outputs("h-from-old-c", "h' = o tanh(c), with the cell state from before the step", step=_h_from_old_c),
    _cell(
        "no-output-gate",
        "h' = tanh(c'), without the output gate",
        gates=lambda i, f, g, o: (i, f, g, torch.ones_like(o)),
    ),
)
