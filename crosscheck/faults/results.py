"""Faults of how gradients are returned: computed right, then put in the wrong place, order, scale or dtype."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crosscheck.core.problem import Gradient, Quantity, Results
from crosscheck.faults.fault import GradientsHook, wrong_gradients
from crosscheck.faults.layout import GATED, on_gates, other_direction, reordered
from crosscheck.faults.parts import bfloat16
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES

_PARAMETERS = ("weight", "bias")


def _gradients(of: str | tuple[str, ...], change: Callable[[Tensor, RecurrentCase], Tensor]) -> GradientsHook:
    """Return the hook that applies ``change`` to the gradient of every array whose name begins so."""

    def gradients(arrays: Results, case: RecurrentCase) -> Results:
        chosen = {key for key in arrays if isinstance(key, Gradient) and key.of.startswith(of)}
        return {key: change(torch.from_numpy(a), case).numpy() if key in chosen else a for key, a in arrays.items()}

    return gradients


def _one_nan(a: Tensor, case: RecurrentCase) -> Tensor:
    a = a.clone()
    a.view(-1)[0] = torch.nan
    return a


def _late(a: Tensor, case: RecurrentCase) -> Tensor:
    """Return the gradient shifted by one time step. The first step's becomes zero, and the last step's is lost."""
    a = a.roll(1, case.time_axis)
    a.select(case.time_axis, 0).zero_()
    return a


def _other_direction(arrays: Results, case: RecurrentCase) -> Results:
    def other(key: Quantity) -> Quantity:
        return Gradient(other_direction(key.of)) if isinstance(key, Gradient) and "_l" in key.of else key

    return {key: arrays[other(key)] for key in arrays}


FAULTS = (
    wrong_gradients(
        "dW-in-igfo",
        "weight and bias gradients returned in the order i g f o",
        gradients=_gradients(GATED, lambda a, case: reordered(a, GATES, "igfo")),
    ),
    wrong_gradients(
        "dW_hh-in-iofg",
        "the gradient of weight_hh returned in the order i o f g",
        gradients=_gradients("weight_hh", lambda a, case: reordered(a, GATES, "iofg")),
    ),
    wrong_gradients(
        "dW_hh-transposed",
        "the gradient of weight_hh transposed in every gate",
        "no projection",
        "two units",
        gradients=_gradients("weight_hh", lambda a, case: on_gates(lambda block: block.T)(a)),
    ),
    wrong_gradients(
        "dW-over-B",
        "weight and bias gradients divided by the batch size",
        "a batch",
        gradients=_gradients(_PARAMETERS, lambda a, case: a / (case.batch or 1)),
    ),
    wrong_gradients(
        "dW_hh-one-NaN", "one NaN in the gradient of weight_hh", gradients=_gradients("weight_hh", _one_nan)
    ),
    wrong_gradients(
        "dW-bfloat16",
        "weight and bias gradients returned as bfloat16",
        gradients=_gradients(_PARAMETERS, lambda a, case: bfloat16(a)),
    ),
    wrong_gradients(
        "dW-float32",
        "weight and bias gradients rounded to float32",
        gradients=_gradients(_PARAMETERS, lambda a, case: a.float().to(a.dtype)),
    ),
    wrong_gradients("dx-late", "the gradient of x one step late", gradients=_gradients("x", _late)),
    wrong_gradients(
        "dW-directions-swapped",
        "the weight gradients of the two directions swapped",
        "both directions",
        gradients=_other_direction,
    ),
)
