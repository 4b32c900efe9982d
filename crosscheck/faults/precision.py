"""Faults of precision: products and states narrower than the dtype, and float32 inside a float64 program.

Faults with ``precision="float32"`` change only float32, as TF32 on a GPU does. In float64 they equal the reference bit
for bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from crosscheck.faults.fault import At, Params, StepHook, wrong_gradients, wrong_outputs
from crosscheck.faults.parts import Unary, bfloat16, float16, on_weights, open_step, own_product, tf32
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import State, Weights, lstm_step

_narrow = partial(wrong_outputs, precision="float32")


def _products(narrow: Unary, **parts: Any) -> StepHook:
    """Return the step whose products read narrower operands."""
    return partial(open_step, product=own_product(narrow=narrow, narrow_back=narrow), **parts)


def _carry(narrow: Unary) -> StepHook:
    def step(w: Weights, x: Tensor, state: State, at: At) -> State:
        h, c = lstm_step(w, x, state)
        return narrow(h), narrow(c)

    return step


def _cell_in_float32(w: Weights, x: Tensor, state: State, at: At) -> State:
    h, c = lstm_step(on_weights(w, Tensor.float), x.float(), (state[0].float(), state[1].float()))
    return h.to(x.dtype), c.to(x.dtype)


def _tanh_in_float32(z: Tensor) -> Tensor:
    return torch.tanh(z.float()).to(z.dtype)


def _weights_in_bfloat16(params: Params, case: RecurrentCase) -> Params:
    return {name: a + (bfloat16(a) - a).detach() for name, a in params.items()}


FAULTS = (
    _narrow("tf32", "TF32 products", step=_products(tf32)),
    _narrow("tf32-inputs", "TF32 products only with the inputs", step=_products(tf32, recurrent=linear)),
    _narrow("bfloat16", "bfloat16 products", step=_products(bfloat16)),
    _narrow("float16", "float16 products", step=_products(float16)),
    _narrow("bfloat16-carry", "h and c kept in bfloat16 between steps", step=_carry(bfloat16)),
    _narrow("float16-carry", "h and c kept in float16 between steps", step=_carry(float16)),
    wrong_outputs("float32-leak", "a cell that always computes in float32", step=_cell_in_float32),
    wrong_outputs(
        "float32-tanh", "a tanh that always computes in float32", step=partial(open_step, tanh=_tanh_in_float32)
    ),
    wrong_outputs("bfloat16-weights", "weights that were stored as bfloat16", weights=_weights_in_bfloat16),
    wrong_gradients(
        "tf32-backward",
        "TF32 products only in the backward pass",
        precision="float32",
        step=partial(open_step, product=own_product(narrow_back=tf32)),
    ),
)
