"""Faults of how gradients are returned: computed right, then put in the wrong place, order, scale or dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from crosscheck.core.problem import Gradient, Quantity, Results
from crosscheck.faults.fault import GradientsHook, wrong_gradients
from crosscheck.faults.layout import GATES
from crosscheck.faults.parts import bfloat16
from crosscheck.lstm.cases import RecurrentCase

Change: TypeAlias = Callable[[np.ndarray, RecurrentCase], np.ndarray]
_PARAMETERS = ("weight", "bias")
_GATED = ("weight_ih", "weight_hh", "bias")


def _gradients(prefixes: str | tuple[str, ...], change: Change) -> GradientsHook:
    """Return the hook that applies ``change`` to the gradient of every array whose name begins so."""

    def gradients(arrays: Results, case: RecurrentCase) -> Results:
        return {
            key: change(a, case) if isinstance(key, Gradient) and key.of.startswith(prefixes) else a
            for key, a in arrays.items()
        }

    return gradients


def _back_in(order: str) -> Change:
    """Return the change that puts the blocks of ``[4H, ...]`` into ``order``."""

    def change(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
        blocks = dict(zip(GATES, np.split(a, 4), strict=True))
        return np.concatenate([blocks[gate] for gate in order])

    return change


def _transposed(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
    return np.concatenate([block.T for block in np.split(a, 4)])


def _mean_over_batch(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
    mean: np.ndarray = a / a.dtype.type(case.batch)
    return mean


def _one_nan(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
    a = a.copy()
    a.flat[0] = np.nan
    return a


def _late(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
    """Return the gradient shifted by one time step: that of the first step is zero, that of the last step is lost."""
    a = np.roll(a, 1, case.time_axis)
    np.moveaxis(a, case.time_axis, 0)[0] = 0
    return a


def _bfloat16(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
    rounded: np.ndarray = bfloat16(torch.from_numpy(a)).numpy()
    return rounded


def _float32(a: np.ndarray, case: RecurrentCase) -> np.ndarray:
    return a.astype(np.float32).astype(a.dtype)


def _other_direction(arrays: Results, case: RecurrentCase) -> Results:
    def other(key: Quantity) -> Quantity:
        if not isinstance(key, Gradient) or "_l" not in key.of:
            return key
        return Gradient(key.of.removesuffix("_reverse") if key.of.endswith("_reverse") else f"{key.of}_reverse")

    return {key: arrays[other(key)] for key in arrays}


FAULTS = (
    wrong_gradients(
        "dW-in-igfo",
        "weight and bias gradients returned in the order i g f o",
        gradients=_gradients(_GATED, _back_in("igfo")),
    ),
    wrong_gradients(
        "dW_hh-in-iofg",
        "the gradient of weight_hh returned in the order i o f g",
        gradients=_gradients("weight_hh", _back_in("iofg")),
    ),
    wrong_gradients(
        "dW_hh-transposed",
        "the gradient of weight_hh transposed in every gate",
        "no projection",
        "two units",
        gradients=_gradients("weight_hh", _transposed),
    ),
    wrong_gradients(
        "dW-over-B",
        "weight and bias gradients divided by the batch size",
        "a batch",
        gradients=_gradients(_PARAMETERS, _mean_over_batch),
    ),
    wrong_gradients(
        "dW_hh-one-NaN", "one NaN in the gradient of weight_hh", gradients=_gradients("weight_hh", _one_nan)
    ),
    wrong_gradients(
        "dW-bfloat16", "weight and bias gradients returned as bfloat16", gradients=_gradients(_PARAMETERS, _bfloat16)
    ),
    wrong_gradients(
        "dW-float32", "weight and bias gradients rounded to float32", gradients=_gradients(_PARAMETERS, _float32)
    ),
    wrong_gradients("dx-late", "the gradient of x one step late", gradients=_gradients("x", _late)),
    wrong_gradients(
        "dW-directions-swapped",
        "the weight gradients of the two directions swapped",
        "both directions",
        gradients=_other_direction,
    ),
)
