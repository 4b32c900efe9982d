"""Faults of the sequence: order, ends, padding, and what passes from one row of a batch to another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crosscheck.faults.fault import At, Direction, DirectionHook, SequenceAndState, wrong_outputs
from torch_ref.cell import State, Weights, lstm_step

DROPPED = 0.1


def _late(a: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(a[:1]), a[:-1]))


def _reshaped(x: Tensor) -> Tensor:
    """Read the memory of ``[B, T, D]`` as ``[T, B, D]``."""
    return x.transpose(0, 1).reshape(x.shape)


def _dropout(a: Tensor) -> Tensor:
    """Apply torch's dropout with the same mask in every call and every dtype."""
    kept = torch.rand(a.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) >= DROPPED
    return a * kept.to(a.dtype) / (1 - DROPPED)


def _state_before_step(one: Direction) -> SequenceAndState:
    """Return as y of a step the h from before the step."""
    y, last = one.run()
    first = one.state[0].unsqueeze(0)
    y = torch.cat((y[1:], first)) if one.reverse else torch.cat((first, y[:-1]))
    return (y if one.valid is None else y * one.valid), last


def _not_flipped_back(one: Direction) -> SequenceAndState:
    y, last = one.run()
    return (y.flip(0) if one.reverse else y), last


def _h_n_of(step: Callable[[At], int], reverse: bool) -> DirectionHook:
    """Return the hook that reads the h_n of one direction in y, at a step."""

    def direction(one: Direction) -> SequenceAndState:
        y, (h, c) = one.run()
        return y, (y[step(one.at)] if one.reverse is reverse else h, c)

    return direction


def _state_runs_on(one: Direction) -> SequenceAndState:
    y, last = one.run()
    return y, last if one.reverse else one.run(valid=None)[1]


def _reverse_through_padding(one: Direction) -> SequenceAndState:
    if not one.reverse or one.valid is None:
        return one.run()
    y, last = one.run(valid=None)
    return y * one.valid, last


def _padding_filled(one: Direction) -> SequenceAndState:
    y, last = one.run()
    return (y if one.valid is None else torch.where(one.valid, y, last[0])), last


def _rows_one_by_one(one: Direction) -> SequenceAndState:
    """Start each row of the batch from the last state of the row before it."""
    outputs, lasts = [], []
    last: State = (one.state[0][:1], one.state[1][:1])
    for n in range(one.x.shape[1]):
        row = slice(n, n + 1)
        y, last = one.run(x=one.x[:, row], state=last, valid=None if one.valid is None else one.valid[:, row])
        outputs.append(y)
        lasts.append(last)
    h, c = (torch.cat(parts) for parts in zip(*lasts, strict=True))
    return torch.cat(outputs, dim=1), (h, c)


def _mixed_rows(w: Weights, x: Tensor, state: State, at: At) -> State:
    h, c = lstm_step(w, x, state)
    return 0.99 * h + 0.01 * h.mean(0, keepdim=True), c


FAULTS = (
    wrong_outputs("x-late", "x read one step late", inputs=lambda x, hx, case: (_late(x), hx)),
    wrong_outputs(
        "x-reshaped",
        "x reshaped from [B, T, D] to [T, B, D], not transposed",
        "a batch",
        "two steps",
        inputs=lambda x, hx, case: (_reshaped(x), hx),
    ),
    wrong_outputs(
        "batch-size",
        "x times 1 + (B - 1) / 1,000, so that a row depends on the batch size",
        "a batch",
        inputs=lambda x, hx, case: (x * (1 + 1e-3 * (x.shape[1] - 1)), hx),
    ),
    wrong_outputs("y-late", "y one step late", outputs=lambda y, last, case: (_late(y), last)),
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
        direction=lambda one: one.run(reverse=False),
    ),
    wrong_outputs(
        "h_n-of-first-step",
        "h_n of the forward direction read at the first step",
        "two steps",
        direction=_h_n_of(lambda at: 0, reverse=False),
    ),
    wrong_outputs(
        "h_n-reverse-of-last-step",
        "h_n of the reverse direction read at the last step, which is its first",
        "both directions",
        "two steps",
        direction=_h_n_of(lambda at: at.steps - 1, reverse=True),
    ),
    wrong_outputs(
        "h_n-past-the-end",
        "h_n read at step T in rows that end before it",
        "padding",
        direction=_h_n_of(lambda at: -1, reverse=False),
    ),
    wrong_outputs(
        "padding-consumed", "padding read like any other step", "padding", direction=lambda one: one.run(valid=None)
    ),
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
        direction=lambda one: one.run(x=_dropout(one.x) if one.at.layer else one.x),
    ),
    wrong_outputs(
        "dropout-on-y", f"dropout of {DROPPED} on y left on", outputs=lambda y, last, case: (_dropout(y), last)
    ),
)
