"""The loop over time: one layer in one direction, step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torch_ref.cell import Weights

State = tuple[Tensor, ...]


def run(
    step: Callable[[Weights, Tensor, State], State],
    weights: Weights,
    x: Tensor,
    state: State,
    valid: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, State]:
    """x [T, *batch, D] -> h of every step [T, *batch, P] and the last state.

    ``valid``, bool [T, *batch, 1] or None: where it is False the state passes through and the output is zero. So
    the last state is the one at a row's last valid step, and the reverse direction starts at that step.
    """
    inputs = x.unbind(0)  # several times faster than x[t] at every step
    masks = (None,) * len(inputs) if valid is None else valid.unbind(0)
    order = slice(None, None, -1 if reverse else 1)
    outputs: list[Tensor] = []
    for x_t, valid_t in zip(inputs[order], masks[order], strict=True):
        new = step(weights, x_t, state)
        if valid_t is None:
            state = new
            outputs.append(new[0])
        else:
            state = tuple(torch.where(valid_t, a, b) for a, b in zip(new, state, strict=True))
            outputs.append(torch.where(valid_t, new[0], torch.zeros_like(new[0])))
    return torch.stack(outputs[order]), state
