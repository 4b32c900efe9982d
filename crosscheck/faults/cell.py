"""Faults of the cell: its equations and its activations."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from crosscheck.faults.fault import At, wrong_outputs
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


def _h_from_old_c(w: Weights, x: Tensor, state: State, at: At) -> State:
    return open_step(w, x, state, squash=lambda new: torch.tanh(state[1]))


FAULTS = (
    wrong_outputs(
        "hard-sigmoid", "the hard sigmoid clip(0.2 z + 0.5, 0, 1)", step=partial(open_step, sigmoid=hard_sigmoid)
    ),
    wrong_outputs(
        "rational-tanh",
        "a rational tanh with an error of 2e-5 up to |z| = 2",
        step=partial(open_step, tanh=rational_tanh),
    ),
    wrong_outputs(
        "table-tanh", "a tanh from a table, with an error below 1e-4", step=partial(open_step, tanh=table_tanh)
    ),
    wrong_outputs(
        "table-sigmoid",
        "a sigmoid made of a tanh from a table, with an error below 5e-5",
        step=partial(open_step, sigmoid=lambda z: 0.5 + 0.5 * table_tanh(0.5 * z)),
    ),
    wrong_outputs("no-tanh-of-c", "h = o c, without the tanh of c", step=partial(open_step, squash=unchanged)),
    wrong_outputs("no-tanh-of-g", "no tanh of g", step=partial(open_step, tanh=unchanged, squash=torch.tanh)),
    wrong_outputs(
        "sigmoid-of-g",
        "a sigmoid in place of the tanh of g",
        step=partial(open_step, tanh=torch.sigmoid, squash=torch.tanh),
    ),
    wrong_outputs(
        "cell-clip",
        f"c clipped to ±{CELL_CLIP}",
        step=partial(open_step, update=lambda *parts: torch.clamp(cell_update(*parts), -CELL_CLIP, CELL_CLIP)),
    ),
    wrong_outputs(
        "coupled-gates", "the input gate 1 - f", step=partial(open_step, gates=lambda i, f, g, o: (1 - f, f, g, o))
    ),
    wrong_outputs(
        "forget-gate-on-all", "c' = f (c + i g)", step=partial(open_step, update=lambda i, f, g, c: f * (c + i * g))
    ),
    wrong_outputs("h-from-old-c", "h' = o tanh(c), with the cell state from before the step", step=_h_from_old_c),
    wrong_outputs(
        "no-output-gate",
        "h' = tanh(c'), without the output gate",
        step=partial(open_step, gates=lambda i, f, g, o: (i, f, g, torch.ones_like(o))),
    ),
)
