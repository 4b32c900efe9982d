"""Faults of the sequence: order, ends, padding, and what passes from one row of a batch to another."""

from __future__ import annotations

import torch
from torch import Tensor

from crosscheck.faults.fault import At, Run, SequenceAndState, wrong_outputs
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import State, Weights, lstm_step

DROPPED = 0.1


def _x_late(x: Tensor, hx: State, case: RecurrentCase) -> SequenceAndState:
    return torch.cat((torch.zeros_like(x[:1]), x[:-1])), hx


def _reshaped(x: Tensor, hx: State, case: RecurrentCase) -> SequenceAndState:
    """Read the memory of ``[B, T, D]`` as ``[T, B, D]``."""
    return x.transpose(0, 1).reshape(x.shape), hx


def _grows_with_batch(x: Tensor, hx: State, case: RecurrentCase) -> SequenceAndState:
    return x * (1 + 1e-3 * (x.shape[1] - 1)), hx


def _y_late(y: Tensor, last: State, case: RecurrentCase) -> SequenceAndState:
    return torch.cat((torch.zeros_like(y[:1]), y[:-1])), last


def _dropout_of_y(y: Tensor, last: State, case: RecurrentCase) -> SequenceAndState:
    return _dropout(y), last


def _dropout(a: Tensor) -> Tensor:
    """Apply torch's dropout with the same mask in every call and every dtype."""
    kept = torch.rand(a.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) >= DROPPED
    return a * kept.to(a.dtype) / (1 - DROPPED)


def _dropout_between_layers(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    return run(_dropout(x) if at.layer else x, state, valid, at.reverse)


def _state_before_step(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    """Return as y of a step the h from before the step."""
    y, last = run(x, state, valid, at.reverse)
    first = state[0].unsqueeze(0)
    y = torch.cat((y[1:], first)) if at.reverse else torch.cat((first, y[:-1]))
    return (y if valid is None else y * valid), last


def _not_flipped_back(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    y, last = run(x, state, valid, at.reverse)
    return (y.flip(0) if at.reverse else y), last


def _never_reversed(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    return run(x, state, valid, False)


def _h_n_of_first_step(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    y, (h, c) = run(x, state, valid, at.reverse)
    return y, (h if at.reverse else y[0], c)


def _h_n_of_last_time(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    """Read h_n of the reverse direction at the last step. It ends at t = 0."""
    y, (h, c) = run(x, state, valid, at.reverse)
    return y, (y[at.steps - 1] if at.reverse else h, c)


def _h_n_past_the_end(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    y, (h, c) = run(x, state, valid, at.reverse)
    return y, (h if at.reverse else y[-1], c)


def _padding_consumed(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    return run(x, state, None, at.reverse)


def _state_runs_on(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    y, last = run(x, state, valid, at.reverse)
    return y, last if at.reverse else run(x, state, None, False)[1]


def _reverse_through_padding(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    if not at.reverse:
        return run(x, state, valid, False)
    y, last = run(x, state, None, True)
    return (y if valid is None else y * valid), last


def _padding_filled(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    y, last = run(x, state, valid, at.reverse)
    return (y if valid is None else torch.where(valid, y, last[0])), last


def _rows_one_by_one(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At) -> SequenceAndState:
    """Start each row of the batch from the last state of the row before it."""
    outputs, lasts = [], []
    last: State = (state[0][:1], state[1][:1])
    for row in range(x.shape[1]):
        one = slice(row, row + 1)
        y, last = run(x[:, one], last, None if valid is None else valid[:, one], at.reverse)
        outputs.append(y)
        lasts.append(last)
    h, c = (torch.cat(parts) for parts in zip(*lasts, strict=True))
    return torch.cat(outputs, dim=1), (h, c)


def _mixed_rows(w: Weights, x: Tensor, state: State, at: At) -> State:
    h, c = lstm_step(w, x, state)
    return 0.99 * h + 0.01 * h.mean(0, keepdim=True), c


FAULTS = (
    wrong_outputs("x-late", "x read one step late", inputs=_x_late),
    wrong_outputs(
        "x-reshaped", "x reshaped from [B, T, D] to [T, B, D], not transposed", "a batch", "two steps", inputs=_reshaped
    ),
    wrong_outputs(
        "batch-size",
        "x times 1 + (B - 1) / 1,000, so that a row depends on the batch size",
        "a batch",
        inputs=_grows_with_batch,
    ),
    wrong_outputs("y-late", "y one step late", outputs=_y_late),
    wrong_outputs("y-before-step", "y of every layer that holds h from before the step", direction=_state_before_step),
    wrong_outputs(
        "reverse-not-flipped-back",
        "outputs of the reverse direction in reversed time",
        "both directions",
        "two steps",
        direction=_not_flipped_back,
    ),
    wrong_outputs(
        "reverse-not-reversed",
        "a reverse direction that runs forward",
        "both directions",
        "two steps",
        direction=_never_reversed,
    ),
    wrong_outputs(
        "h_n-of-first-step",
        "h_n of the forward direction read at the first step",
        "two steps",
        direction=_h_n_of_first_step,
    ),
    wrong_outputs(
        "h_n-reverse-of-last-step",
        "h_n of the reverse direction read at the last step, which is its first",
        "both directions",
        "two steps",
        direction=_h_n_of_last_time,
    ),
    wrong_outputs(
        "h_n-past-the-end", "h_n read at step T in rows that end before it", "padding", direction=_h_n_past_the_end
    ),
    wrong_outputs("padding-consumed", "padding read like any other step", "padding", direction=_padding_consumed),
    wrong_outputs(
        "padding-in-last-state",
        "a last state that runs on through the padding, and the right y",
        "padding",
        direction=_state_runs_on,
    ),
    wrong_outputs(
        "padding-before-reverse",
        "a reverse direction that starts in the padding",
        "both directions",
        "padding",
        direction=_reverse_through_padding,
    ),
    wrong_outputs("padding-filled", "the last h, not zero, as y in the padding", "padding", direction=_padding_filled),
    wrong_outputs(
        "rows-carry-state",
        "every row of a batch starting from the last state of the row before it",
        "a batch",
        direction=_rows_one_by_one,
    ),
    wrong_outputs(
        "rows-mixed", "h of every step mixed with 1 % of its mean over the batch", "a batch", step=_mixed_rows
    ),
    wrong_outputs(
        "dropout-between-layers",
        f"dropout of {DROPPED} between layers left on",
        "two layers",
        direction=_dropout_between_layers,
    ),
    wrong_outputs("dropout-on-y", f"dropout of {DROPPED} on y left on", outputs=_dropout_of_y),
)
