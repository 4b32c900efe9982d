"""A catalogue of two right pairs and two mistakes, to replace the full one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosscheck.models.changing import around, both, other_inputs
from crosscheck.models.pair import Drawn, Mistake, ModelPair, seeded

MODULES = ("crosscheck.models.catalogue", "crosscheck.suite.model_score", "crosscheck.report.model_score_report")


def _dense(params, x):
    return x @ params["weight"].T + params["bias"]


def _draw_dense(rng: np.random.Generator) -> Drawn:
    with seeded(rng):
        module = torch.nn.Linear(3, 4)
    return Drawn(_dense, module, (rng.normal(size=(5, 3)),))


def _draw_clipped(rng: np.random.Generator) -> Drawn:
    with seeded(rng):
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU6())
    port = lambda params, x: (x @ params["0.weight"].T + params["0.bias"]).clip(0, 6)
    return Drawn(port, module, (4 * rng.normal(size=(9, 3)),))


def _draw_wrong(rng: np.random.Generator) -> Drawn:
    drawn = _draw_dense(rng)
    return replace(drawn, port=lambda params, x: 1.001 * _dense(params, x))


def _draw_raising(rng: np.random.Generator) -> Drawn:
    raise RuntimeError("no such pair")


def _draw_coarse(rng: np.random.Generator) -> Drawn:
    drawn = _draw_dense(rng)

    def port(params, x):
        far = 1e4 + params["bias"][0]  # XLA would add two constants
        return _dense(params, (x + far) - far)

    return replace(drawn, port=port)


def _draw_zero(rng: np.random.Generator) -> Drawn:
    drawn = _draw_dense(rng)
    return replace(drawn, inputs=(0.0 * drawn.inputs[0],))


def _unclipped(port, params, x):
    return (x @ params["0.weight"].T + params["0.bias"]).clip(0)


def _without_bias(port, params, x):
    return x @ params["weight"].T


RIGHT = (ModelPair("dense", "a layer", _draw_dense), ModelPair("clipped", "a clipped layer", _draw_clipped))
KILLED = Mistake("dense-bias", "dense", "the bias is missing", around(_without_bias))
HIDDEN = Mistake(
    "clip-unseen",
    "clipped",
    "nothing is clipped at 6",
    both(other_inputs(lambda x: (0.1 * x,)), around(_unclipped)),
    hidden_by="no number reaches 6",
    answer="no number is beyond the upper bound of clamp",
)
FALSE_ALARM = ModelPair("wrong", "a layer that is 0.1 % too large", _draw_wrong)
RAISES = ModelPair("raises", "a pair that cannot be drawn", _draw_raising)
COARSE = ModelPair("coarse", "a layer whose inputs lose digits", _draw_coarse)
ZERO = ModelPair("zero", "a layer whose inputs are zero", _draw_zero)
SURVIVOR = Mistake("nothing", "dense", "nothing is wrong", lambda drawn: drawn)
UNHIDDEN = replace(HIDDEN, name="clip-not-hidden", hidden_by="", answer="")


def make_small(
    patch: pytest.MonkeyPatch,
    pairs: Sequence[ModelPair] = RIGHT,
    mistakes: Sequence[Mistake] = (KILLED, HIDDEN),
) -> None:
    """Replace the catalogue, and draw each pair once."""
    patch.setattr("crosscheck.suite.model_score.RIGHT", 1)
    patch.setattr("crosscheck.suite.model_score.QUICK", 1)
    for module in MODULES:
        patch.setattr(f"{module}.PAIRS", {pair.name: pair for pair in pairs})
        patch.setattr(f"{module}.MISTAKES", {mistake.name: mistake for mistake in mistakes})
