"""Faults of layout: weights read in another order, transposed, left out, added to or taken from another place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from crosscheck.faults.fault import Fault, Params, WeightsHook, wrong_outputs
from crosscheck.faults.parts import Unary, on_parameters
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import GATES

GATED = ("weight_ih", "weight_hh", "bias")


def reordered(a: Tensor, stored: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Return ``[4H, ...]``, whose blocks are the gates ``stored``, with its blocks in the order ``wanted``."""
    blocks = dict(zip(stored, a.chunk(4), strict=True))
    return torch.cat([blocks[gate] for gate in wanted])


def on_gates(change: Unary, gates: Sequence[str] = GATES) -> Unary:
    """Return the function that applies ``change`` to the blocks of some gates of ``[4H, ...]``."""
    return lambda a: torch.cat(
        [change(block) if gate in gates else block for gate, block in zip(GATES, a.chunk(4), strict=True)]
    )


def other_direction(name: str) -> str:
    """Return the name of a parameter in the other direction."""
    return name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"


_misread = partial(wrong_outputs, layout=True)


def _in_order(order: str, prefixes: str | tuple[str, ...]) -> WeightsHook:
    """Return the hook that reads blocks as if they were in ``order``."""
    return on_parameters(prefixes, lambda a: reordered(a, order, GATES))


def _order(order: str, known: str = "") -> Fault:
    departure = f"gates read in the order {' '.join(order)}{known}"
    return _misread(f"gate-order-{order}", departure, weights=_in_order(order, GATED))


def _order_only(prefix: str, words: str, *needs: str) -> Fault:
    departure = f"gates read in the order i g f o only in {words}"
    return _misread(f"gate-order-{prefix}", departure, *needs, weights=_in_order("igfo", prefix))


def _forget_bias(amount: float) -> WeightsHook:
    return on_parameters("bias_ih", on_gates(lambda block: block + amount, "f"))


def _interleaved(a: Tensor) -> Tensor:
    """Return ``[4H, ...]`` read as ``[H, 4, ...]``: the four gates of the first unit, then the gates of the second."""
    return a.reshape(-1, 4, *a.shape[1:]).transpose(0, 1).reshape(a.shape)


def _first_two_swapped(a: Tensor) -> Tensor:
    """Return the array with the first two entries of the last axis exchanged."""
    return torch.cat((a[..., 1:2], a[..., :1], a[..., 2:]), dim=-1)


def _from(source: Callable[[str], str]) -> WeightsHook:
    """Return the hook that reads another parameter in place of each, by its name."""
    return lambda params, case: {name: params[source(name)] for name in params}


def _of_first_layer(name: str) -> str:
    suffix = "_reverse" if name.endswith("_reverse") else ""
    return f"weight_hh_l0{suffix}" if name.startswith("weight_hh") else name


def _one_off(size: str) -> Fault:
    """Return the fault that changes the largest number of weight_hh_l0, which matters most, by a relative ``size``."""

    def weights(params: Params, case: RecurrentCase) -> Params:
        a = params["weight_hh_l0"]
        factor = torch.ones_like(a)
        factor.view(-1)[a.detach().abs().argmax()] += float(size)
        return params | {"weight_hh_l0": a * factor}

    departure = f"one number of weight_hh_l0 with a relative error of {size}"
    return wrong_outputs(f"one-weight-{size}", departure, weights=weights)


FAULTS = (
    _order("igfo", ", as Haiku stores them"),
    _order("iofg", ", as ONNX stores them"),
    _order("figo", ": i and f swapped"),
    _order("ifog", ": g and o swapped"),
    _order("ofgi", ": i and o swapped"),
    _order("gifo"),
    _order_only("weight_ih", "weight_ih"),
    _order_only("weight_hh", "weight_hh"),
    _order_only("bias", "the biases", "bias"),
    _misread(
        "gates-interleaved",
        "gates read unit by unit, four rows each",
        "two units",
        weights=on_parameters(GATED, _interleaved),
    ),
    _misread(
        "weight_hh-transposed",
        "weight_hh transposed in every gate",
        "no projection",
        "two units",
        weights=on_parameters("weight_hh", on_gates(lambda block: block.T)),
    ),
    _misread(
        "weight_hh-g-transposed",
        "weight_hh transposed only in the gate g",
        "no projection",
        "two units",
        weights=on_parameters("weight_hh", on_gates(lambda block: block.T, "g")),
    ),
    _misread(
        "weight_ih-reshaped",
        "weight_ih stored as [in, 4H] and reshaped to [4H, in], not transposed",
        "two features",
        weights=on_parameters("weight_ih", lambda a: a.T.reshape(a.shape)),
    ),
    _misread("bias_hh-dropped", "bias_hh left out", "bias", weights=on_parameters("bias_hh", torch.zeros_like)),
    _misread("bias_hh-doubled", "bias_hh added twice", "bias", weights=on_parameters("bias_hh", lambda a: 2 * a)),
    _misread("bias_ih-dropped", "bias_ih left out", "bias", weights=on_parameters("bias_ih", torch.zeros_like)),
    _misread(
        "bias_ih-twice",
        "bias_ih in place of bias_hh",
        "bias",
        weights=_from(lambda name: name.replace("bias_hh", "bias_ih")),
    ),
    _misread("forget-bias-plus-one", "1 added to the forget gate's bias", "bias", weights=_forget_bias(1.0)),
    _misread("forget-bias-minus-one", "1 subtracted from the forget gate's bias", "bias", weights=_forget_bias(-1.0)),
    _misread(
        "directions-swapped",
        "the weights of the two directions swapped",
        "both directions",
        weights=_from(other_direction),
    ),
    _misread(
        "weight_hh-of-first-layer",
        "weight_hh of the first layer in every layer",
        "two layers",
        weights=_from(_of_first_layer),
    ),
    _misread(
        "units-swapped",
        "the first two columns of weight_hh swapped",
        "two units",
        weights=on_parameters("weight_hh", _first_two_swapped),
    ),
    _one_off("1e-3"),
    _one_off("1e-5"),
)
