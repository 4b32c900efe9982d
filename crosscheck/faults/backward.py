"""Faults of only the backward pass: every output equals the reference's bit for bit, and some gradient does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from crosscheck.faults.fault import At, Fault, SequenceAndState, StepHook, wrong_gradients
from crosscheck.faults.parts import (
    bfloat16,
    on_parameters,
    on_states,
    on_weights,
    open_step,
    own_product,
    with_cotangent,
    with_derivative,
)
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import State, Weights, lstm_step

HIGH_CLIP = 2.0**14  # far above what cotangents of unit size grow to, far below 2^20 times that
LOW_CLIP = 0.5


def _from(change: Callable[[Tensor, Tensor, At], State]) -> StepHook:
    """Return the step from another state, which ``change`` makes of h and c without changing their values."""
    return lambda w, x, state, at: lstm_step(w, x, change(state[0], state[1], at))


def _without_weight_gradients(where: Callable[[At], bool]) -> StepHook:
    """Return the step that adds nothing to weight gradients at some steps."""
    return lambda w, x, state, at: lstm_step(on_weights(w, torch.detach) if where(at) else w, x, state)


def _new_h_in_product(w: Weights, x: Tensor, state: State, at: At) -> State:
    """Compute dW_hh = Σ dz_t ⊗ h_t. It should have h_{t-1}."""
    with torch.no_grad():
        h, _ = lstm_step(w, x, state)
    return open_step(w, x, state, recurrent=own_product(kept=h))


def _clipped(threshold: float) -> StepHook:
    def step(w: Weights, x: Tensor, state: State, at: At) -> State:
        h, c = lstm_step(w, x, state)
        return with_cotangent(h, lambda g: g.clamp(-threshold, threshold)), c

    return step


def _stop_early_rows(y: Tensor, last: State, case: RecurrentCase) -> SequenceAndState:
    early = (torch.tensor(case.lengths) < case.steps).unsqueeze(-1)
    h, c = (torch.where(early, a.detach(), a) for a in last)
    return y, (h, c)


def _cell(name: str, departure: str, **parts: Any) -> Fault:
    """Return a fault whose step has other parts, by the names of `open_step`."""
    return wrong_gradients(name, departure, step=partial(open_step, **parts))


FAULTS = (
    wrong_gradients(
        "stop-gradient-h", "a stop_gradient on h between steps", step=_from(lambda h, c, at: (h.detach(), c))
    ),
    wrong_gradients(
        "stop-gradient-c", "a stop_gradient on c between steps", step=_from(lambda h, c, at: (h, c.detach()))
    ),
    wrong_gradients(
        "truncated-at-half",
        "back-propagation truncated at half the length",
        "two steps",
        step=_from(lambda h, c, at: (h.detach(), c.detach()) if at.t == at.steps // 2 else (h, c)),
    ),
    wrong_gradients(
        "dW-without-first-step", "weight gradients without step 0", step=_without_weight_gradients(lambda at: at.t == 0)
    ),
    wrong_gradients(
        "dW-without-last-chunk",
        "weight gradients without the last quarter of the steps",
        "two steps",
        step=_without_weight_gradients(lambda at: at.t >= at.steps - max(at.steps // 4, 1)),
    ),
    wrong_gradients("dW_hh-of-new-h", "h_t in place of h_{t-1} in the gradient of weight_hh", step=_new_h_in_product),
    wrong_gradients(
        "clip-high",
        f"a hidden clipping of dh at ±{HIGH_CLIP:,g}, which the problem's own cotangents do not reach",
        step=_clipped(HIGH_CLIP),
        homogeneity=True,
    ),
    wrong_gradients("clip-low", f"a hidden clipping of dh at ±{LOW_CLIP:g}", step=_clipped(LOW_CLIP)),
    _cell("df-dropped", "no gradient through the forget gate", gates=lambda i, f, g, o: (i, f.detach(), g, o)),
    _cell("do-dropped", "no gradient through the output gate", gates=lambda i, f, g, o: (i, f, g, o.detach())),
    _cell(
        "dc-from-h-dropped", "no gradient from h to c, through the tanh of c", squash=lambda c: torch.tanh(c.detach())
    ),
    _cell(
        "sigmoid-derivative-off",
        "a derivative of the sigmoid with a relative error of 1e-3",
        sigmoid=with_derivative(torch.sigmoid, lambda z, s: s * (1 - s) * (1 + 1e-3)),
    ),
    _cell(
        "sigmoid-derivative-hard",
        "the derivative of the hard sigmoid under the right sigmoid",
        sigmoid=with_derivative(torch.sigmoid, lambda z, s: 0.2 * (z.abs() < 2.5).to(z.dtype)),
    ),
    _cell(
        "tanh-derivative-off",
        "a derivative of the tanh whose square has a relative error of 1e-3",
        tanh=with_derivative(torch.tanh, lambda z, y: 1 - y * y * (1 + 1e-3)),
    ),
    _cell(
        "bfloat16-residuals",
        "x, h and activations kept for the backward pass as bfloat16",
        product=own_product(kept=bfloat16),
        sigmoid=with_derivative(torch.sigmoid, lambda z, s: bfloat16(s) * (1 - bfloat16(s))),
        tanh=with_derivative(torch.tanh, lambda z, y: 1 - bfloat16(y) ** 2),
    ),
    wrong_gradients("dh0-zero", "a gradient of h_0 that is zero", inputs=on_states(lambda h, c: (h.detach(), c))),
    wrong_gradients("dc0-zero", "a gradient of c_0 that is zero", inputs=on_states(lambda h, c: (h, c.detach()))),
    wrong_gradients(
        "dx-without-reverse",
        "no gradient from the reverse direction to its inputs",
        "both directions",
        direction=lambda one: one.run(x=one.x.detach() if one.reverse else one.x),
    ),
    wrong_gradients(
        "no-gradient-between-layers",
        "no gradient from a layer to the one below",
        "two layers",
        direction=lambda one: one.run(x=one.x.detach() if one.at.layer else one.x),
    ),
    wrong_gradients(
        "dh_n-ignored",
        "the cotangent of h_n ignored",
        "cotangents on states",
        outputs=on_states(lambda h, c: (h.detach(), c)),
    ),
    wrong_gradients(
        "dc_n-ignored",
        "the cotangent of c_n ignored",
        "cotangents on states",
        outputs=on_states(lambda h, c: (h, c.detach())),
    ),
    wrong_gradients(
        "dh_n-ignored-in-short-rows",
        "the cotangents of h_n and c_n ignored in rows that end early",
        "cotangents on states",
        "rows that end early",
        outputs=_stop_early_rows,
    ),
    wrong_gradients(
        "dy-reversed",
        "the cotangent of y read in reversed time",
        "two steps",
        outputs=lambda y, last, case: (with_cotangent(y, lambda g: g.flip(0)), last),
    ),
    wrong_gradients(
        "db_hh-zero", "a gradient of bias_hh that is zero", "bias", weights=on_parameters("bias_hh", torch.detach)
    ),
    wrong_gradients(
        "db_hh-doubled",
        "a gradient of bias_hh that is doubled",
        "bias",
        weights=on_parameters("bias_hh", lambda a: with_cotangent(a, lambda g: 2 * g)),
    ),
    wrong_gradients(
        "dW_hr-zero",
        "a gradient of weight_hr that is zero",
        "projection",
        weights=on_parameters("weight_hr", torch.detach),
    ),
)
