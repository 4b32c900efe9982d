"""The optimizers of both libraries, with options under which they are the same algorithm.

Each states what differs between the two by default or in form. Everything else, learning rates included, means the same
in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch

MOMENTUM = 0.9
BIAS_CORRECTION = (
    "bias correction: the same formula; optax takes 1 − β^t with β in the parameters' dtype and torch in double: in "
    "float32 β itself is rounded, and no option changes that"
)
CLIP_EPS = 1e-6  # torch's, beside the norm


@dataclass(frozen=True)
class Optimizer:
    """One algorithm in both libraries.

    Attributes:
      learning_rate: the learning rate by default.
      torch: makes the torch.optim optimizer from parameters and learning rate.
      optax: makes the gradient transformation from the learning rate.
      slots: torch's name of each array that is kept per parameter, to optax's name.
      counter: optax's name of the number of steps; None if it keeps none.
      differs: how the two differ by convention, and what is done about it.
    """

    learning_rate: float
    torch: Callable[[Iterable[torch.Tensor], float], torch.optim.Optimizer]
    optax: Callable[[float], optax.GradientTransformation]
    slots: Mapping[str, str] = field(default_factory=dict)
    counter: str | None = None
    differs: tuple[str, ...] = ()


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(
        0.5,
        torch.optim.SGD,
        optax.sgd,
        differs=("nothing: p − lr·g in both",),
    ),
    "momentum": Optimizer(
        0.1,
        lambda parameters, rate: torch.optim.SGD(parameters, rate, momentum=MOMENTUM),
        lambda rate: optax.sgd(rate, momentum=MOMENTUM),
        {"momentum_buffer": "trace"},
        differs=(
            "torch starts its buffer at the first gradient and optax at zero, one step earlier: the same numbers",
            "torch's dampening has no counterpart in optax; it is 0",
        ),
    ),
    "adam": Optimizer(
        3e-3,
        torch.optim.Adam,
        optax.adam,
        {"exp_avg": "mu", "exp_avg_sq": "nu"},
        "count",
        differs=(
            "eps: outside the root and after bias correction in both; optax's eps_root, inside it, stays 0",
            BIAS_CORRECTION,
            "torch's weight_decay is added to the gradient, optax.adam has none; it is 0",
        ),
    ),
    "adamw": Optimizer(
        3e-3,
        lambda parameters, rate: torch.optim.AdamW(parameters, rate, weight_decay=1e-2),
        lambda rate: optax.adamw(rate, weight_decay=1e-2),
        {"exp_avg": "mu", "exp_avg_sq": "nu"},
        "count",
        differs=(
            "weight decay: torch's default is 1e-2 and optax's 1e-4; 1e-2 is given to both",
            "decay: torch shrinks p before the step, optax adds λ·p to the update; both are p − lr·(update + λ·p)",
            "eps: as for adam",
            BIAS_CORRECTION,
        ),
    ),
    "rmsprop": Optimizer(
        1e-3,
        torch.optim.RMSprop,
        lambda rate: optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False),
        {"square_avg": "nu"},
        differs=(
            "eps: outside the root in torch, inside by default in optax; eps_in_sqrt=False moves it out",
            "decay: torch's alpha is 0.99 by default and optax's decay 0.9; 0.99 is given to both",
        ),
    ),
}
CLIP_DIFFERS = (
    "clipping: torch scales by max_norm / (norm + 1e-6), at most 1; optax.clip_by_global_norm has no 1e-6: "
    "torch's form is used in both"
)


def clip_as_torch(max_norm: float) -> optax.GradientTransformation:
    """Return torch.nn.utils.clip_grad_norm_ as a gradient transformation: g · min(1, max_norm / (‖g‖ + 1e-6))."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scale = jnp.minimum(1.0, max_norm / (optax.tree.norm(gradients) + CLIP_EPS))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
