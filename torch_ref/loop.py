"""The loop over time: one layer in one direction, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_ref.cell import State, Step, Weights


def run(
    step: Step,
    weights: Weights,
    x: Tensor,
    state: State,
    valid: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, State]:
    """Return the h of every step ``[T, *batch, P]`` and the last state.

    Args:
      step: one step of a cell.
      weights: the weights of one layer in one direction.
      x: ``[T, *batch, D]``.
      state: the initial state.
      valid: bool ``[T, *batch, 1]``, or None. At a step with False, the state passes through and the output is zero.
        Therefore the last state is the state at the last valid step of a row, and the reverse direction starts there.
      reverse: whether to run from the last step to the first.
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
