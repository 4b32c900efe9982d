"""Faults of the backward pass alone: every output is the reference's bit for bit, some gradient is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from crosscheck.faults.fault import At, Params, Run, State, wrong_gradients
from crosscheck.faults.parts import bfloat16, open_step, own_product, with_cotangent, with_derivative
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import Weights, lstm_step

HIGH_CLIP = 2.0**14  # far over cotangents of unit size and what they grow to, far under 2^20 times them
LOW_CLIP = 0.5


def _parameters(prefix: str, change: Callable[[Tensor], Tensor]) -> Callable[[Params, RecurrentCase], Params]:
    """A ``weights`` hook: ``change``, which keeps the value, on every array whose name begins so."""

    def weights(params: Params, case: RecurrentCase) -> Params:
        return {name: change(a) if name.startswith(prefix) else a for name, a in params.items()}

    return weights


def _detached(w: Weights) -> Weights:
    return Weights(*(None if a is None else a.detach() for a in w))  # type: ignore[arg-type]


def _stop_h(w: Weights, x: Tensor, state, at: At):
    return lstm_step(w, x, (state[0].detach(), state[1]))


def _stop_c(w: Weights, x: Tensor, state, at: At):
    return lstm_step(w, x, (state[0], state[1].detach()))


def _truncated(w: Weights, x: Tensor, state, at: At):
    return lstm_step(w, x, tuple(a.detach() for a in state) if at.t == at.steps // 2 else state)  # type: ignore[arg-type]


def _without_first_step(w: Weights, x: Tensor, state, at: At):
    return lstm_step(_detached(w) if at.t == 0 else w, x, state)


def _without_last_chunk(w: Weights, x: Tensor, state, at: At):
    return lstm_step(_detached(w) if at.t >= at.steps - max(at.steps // 4, 1) else w, x, state)


def _new_h_in_product(w: Weights, x: Tensor, state, at: At):
    """dW_hh = Σ dz_t ⊗ h_t, where h_{t-1} is meant."""
    with torch.no_grad():
        h, _ = lstm_step(w, x, state)
    return open_step(w, x, state, recurrent=own_product(kept=h))


def _clipped(threshold: float) -> Callable:
    def step(w: Weights, x: Tensor, state, at: At):
        h, c = lstm_step(w, x, state)
        return with_cotangent(h, lambda g: g.clamp(-threshold, threshold)), c

    return step


def _stop_forget_gate(w: Weights, x: Tensor, state, at: At):
    return open_step(w, x, state, gates=lambda i, f, g, o: (i, f.detach(), g, o))


def _stop_output_gate(w: Weights, x: Tensor, state, at: At):
    return open_step(w, x, state, gates=lambda i, f, g, o: (i, f, g, o.detach()))


def _stop_c_to_h(w: Weights, x: Tensor, state, at: At):
    return open_step(w, x, state, squash=lambda c: torch.tanh(c.detach()))


def _stop_reverse_x(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At):
    return run(x.detach() if at.reverse else x, state, valid, at.reverse)


def _stop_between_layers(run: Run, x: Tensor, state: State, valid: Tensor | None, at: At):
    return run(x.detach() if at.layer else x, state, valid, at.reverse)


def _stop_first_states(which: int) -> Callable:
    def inputs(x: Tensor, hx: State, case: RecurrentCase) -> tuple[Tensor, State]:
        return x, tuple(a.detach() if i == which else a for i, a in enumerate(hx))

    return inputs


def _stop_last_states(which: int) -> Callable:
    def outputs(y: Tensor, last: State, case: RecurrentCase) -> tuple[Tensor, State]:
        return y, tuple(a.detach() if i == which else a for i, a in enumerate(last))

    return outputs


def _stop_early_rows(y: Tensor, last: State, case: RecurrentCase) -> tuple[Tensor, State]:
    early = (torch.tensor(case.lengths) < case.steps).unsqueeze(-1)
    return y, tuple(torch.where(early, a.detach(), a) for a in last)


def _dy_reversed(y: Tensor, last: State, case: RecurrentCase) -> tuple[Tensor, State]:
    return with_cotangent(y, lambda g: g.flip(0)), last


_sigmoid_off = with_derivative(torch.sigmoid, lambda z, s: s * (1 - s) * (1 + 1e-3))
_tanh_off = with_derivative(torch.tanh, lambda z, y: 1 - y * y * (1 + 1e-3))
_sigmoid_bfloat16 = with_derivative(torch.sigmoid, lambda z, s: bfloat16(s) * (1 - bfloat16(s)))
_tanh_bfloat16 = with_derivative(torch.tanh, lambda z, y: 1 - bfloat16(y) ** 2)
_hard_derivative = with_derivative(torch.sigmoid, lambda z, s: 0.2 * (z.abs() < 2.5).to(z.dtype))

FAULTS = (
    wrong_gradients("stop-gradient-h", "a stop_gradient on h between steps", step=_stop_h),
    wrong_gradients("stop-gradient-c", "a stop_gradient on c between steps", step=_stop_c),
    wrong_gradients("truncated-at-half", "back-propagation truncated at half the length", "two steps", step=_truncated),
    wrong_gradients("dW-without-first-step", "weight gradients without step 0", step=_without_first_step),
    wrong_gradients(
        "dW-without-last-chunk",
        "weight gradients without the last quarter of the steps",
        "two steps",
        step=_without_last_chunk,
    ),
    wrong_gradients(
        "dW_hh-of-new-h", "h_t in the place of h_{t-1} in the gradient of weight_hh", step=_new_h_in_product
    ),
    wrong_gradients(
        "clip-high",
        f"a hidden clipping of dh at ±{HIGH_CLIP:,g}, which the problem's own cotangents do not reach",
        step=_clipped(HIGH_CLIP),
        homogeneity=True,
    ),
    wrong_gradients("clip-low", f"a hidden clipping of dh at ±{LOW_CLIP:g}", step=_clipped(LOW_CLIP)),
    wrong_gradients("df-dropped", "no gradient through the forget gate", step=_stop_forget_gate),
    wrong_gradients("do-dropped", "no gradient through the output gate", step=_stop_output_gate),
    wrong_gradients("dc-from-h-dropped", "no gradient from h to c, through the tanh of c", step=_stop_c_to_h),
    wrong_gradients(
        "sigmoid-derivative-off",
        "a derivative of the sigmoid that is off by a part in 1,000",
        step=partial(open_step, sigmoid=_sigmoid_off),
    ),
    wrong_gradients(
        "sigmoid-derivative-hard",
        "the derivative of the hard sigmoid under the right sigmoid",
        step=partial(open_step, sigmoid=_hard_derivative),
    ),
    wrong_gradients(
        "tanh-derivative-off",
        "a derivative of the tanh in which its square is off by a part in 1,000",
        step=partial(open_step, tanh=_tanh_off),
    ),
    wrong_gradients(
        "bfloat16-residuals",
        "x, h and activations kept for the backward pass as bfloat16",
        step=partial(open_step, product=own_product(kept=bfloat16), sigmoid=_sigmoid_bfloat16, tanh=_tanh_bfloat16),
    ),
    wrong_gradients("dh0-zero", "a gradient of h_0 that is zero", inputs=_stop_first_states(0)),
    wrong_gradients("dc0-zero", "a gradient of c_0 that is zero", inputs=_stop_first_states(1)),
    wrong_gradients(
        "dx-without-reverse",
        "no gradient from the reverse direction to its inputs",
        "both directions",
        direction=_stop_reverse_x,
    ),
    wrong_gradients(
        "no-gradient-between-layers",
        "no gradient from a layer to the one below",
        "two layers",
        direction=_stop_between_layers,
    ),
    wrong_gradients(
        "dh_n-ignored", "the cotangent of h_n ignored", "cotangents on states", outputs=_stop_last_states(0)
    ),
    wrong_gradients(
        "dc_n-ignored", "the cotangent of c_n ignored", "cotangents on states", outputs=_stop_last_states(1)
    ),
    wrong_gradients(
        "dh_n-ignored-in-short-rows",
        "the cotangents of h_n and c_n ignored in rows that end early",
        "cotangents on states",
        "rows that end early",
        outputs=_stop_early_rows,
    ),
    wrong_gradients("dy-reversed", "the cotangent of y read in reversed time", "two steps", outputs=_dy_reversed),
    wrong_gradients(
        "db_hh-zero", "a gradient of bias_hh that is zero", "bias", weights=_parameters("bias_hh", torch.detach)
    ),
    wrong_gradients(
        "db_hh-doubled",
        "a gradient of bias_hh that is doubled",
        "bias",
        weights=_parameters("bias_hh", lambda a: with_cotangent(a, lambda g: 2 * g)),
    ),
    wrong_gradients(
        "dW_hr-zero",
        "a gradient of weight_hr that is zero",
        "projection",
        weights=_parameters("weight_hr", torch.detach),
    ),
)
