"""Small pairs of a torch module and a JAX function, and the verdict on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from crosscheck.models.pair import Calls
from crosscheck.suite.pair import check


def judged(port, module, *inputs, **options):
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}
    return check(port, module, params, inputs, **options)


def not_shown(port, module, *inputs, **options):
    """Return the lines on what the inputs of an agreeing pair cannot show, except the line on second derivatives."""
    verdict = judged(port, module, *inputs, **options)
    assert verdict, str(verdict)
    return [line for line in verdict.not_shown if not line.startswith("second derivatives")]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def module(function, **parts: Any) -> Calls:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = {name: part() for name, part in parts.items()}
    return Calls(function, **made)


def parameter(*shape):
    return lambda: torch.nn.Parameter(torch.randn(shape))
