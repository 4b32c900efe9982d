"""Faults of states: h_0, c_0, h_n and c_n ignored, swapped, or with their rows in another order.

Row r of a state is layer r // directions and direction r % directions; the forward direction is first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from crosscheck.faults.fault import EndsHook, SequenceAndState, wrong_outputs
from crosscheck.faults.parts import on_states
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import State

_misplaced = partial(wrong_outputs, layout=True)


def _rows(change: Callable[[RecurrentCase, Tensor], Tensor]) -> EndsHook:
    """Return the hook that applies ``change`` to the rows of h and of c."""
    return lambda sequence, states, case: (sequence, (change(case, states[0]), change(case, states[1])))


def _by_direction_first(case: RecurrentCase, a: Tensor) -> Tensor:
    """Read ``[layers * directions, ...]`` as ``[directions * layers, ...]``."""
    return a.reshape(2, -1, *a.shape[1:]).transpose(0, 1).reshape(a.shape)


def _pairs_swapped(case: RecurrentCase, a: Tensor) -> Tensor:
    """Exchange the forward and the reverse row of every layer."""
    return a.reshape(-1, 2, *a.shape[1:]).flip(1).reshape(a.shape)


def _layers_swapped(case: RecurrentCase, a: Tensor) -> Tensor:
    """Reverse the order of the layers, and keep the order of the directions."""
    return a.reshape(case.num_layers, -1, *a.shape[1:]).flip(0).reshape(a.shape)


def _first_row_for_all(case: RecurrentCase, a: Tensor) -> Tensor:
    return a[:1].expand_as(a)


def _halves_swapped(y: Tensor, last: State, case: RecurrentCase) -> SequenceAndState:
    forward, reverse = y.chunk(2, dim=-1)
    return torch.cat((reverse, forward), dim=-1), last


FAULTS = (
    _misplaced("h0-ignored", "zeros in place of h_0", inputs=on_states(lambda h, c: (torch.zeros_like(h), c))),
    _misplaced("c0-ignored", "zeros in place of c_0", inputs=on_states(lambda h, c: (h, torch.zeros_like(c)))),
    _misplaced("h0-c0-swapped", "h_0 and c_0 swapped", "no projection", inputs=on_states(lambda h, c: (c, h))),
    _misplaced(
        "states-of-first-row",
        "the first row of h_0 and c_0 in every layer and direction",
        "several rows of states",
        inputs=_rows(_first_row_for_all),
    ),
    _misplaced(
        "states-directions-swapped",
        "forward and reverse rows of h_0 and c_0 swapped",
        "both directions",
        inputs=_rows(_pairs_swapped),
    ),
    _misplaced(
        "states-direction-first",
        "rows of h_0 and c_0 ordered first by direction, then by layer",
        "both directions",
        "two layers",
        inputs=_rows(_by_direction_first),
    ),
    _misplaced(
        "states-layers-swapped",
        "h_0 and c_0 read from the last layer to the first",
        "two layers",
        inputs=_rows(_layers_swapped),
    ),
    _misplaced(
        "last-layers-swapped",
        "h_n and c_n stacked from the last layer to the first",
        "two layers",
        outputs=_rows(_layers_swapped),
    ),
    _misplaced("h_n-c_n-swapped", "h_n and c_n swapped", "no projection", outputs=on_states(lambda h, c: (c, h))),
    _misplaced(
        "last-directions-swapped",
        "forward and reverse rows of h_n and c_n swapped",
        "both directions",
        outputs=_rows(_pairs_swapped),
    ),
    _misplaced(
        "y-directions-swapped",
        "the halves of y swapped: reverse direction first",
        "both directions",
        outputs=_halves_swapped,
    ),
)
