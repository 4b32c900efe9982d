"""What lets our cells stand in the place of Flax's own: its argument names, its carry (c, h), its initialisers.

A cell that is made with Flax's names, ``features`` (linen) or ``in_features`` and ``hidden_features`` (nnx), speaks
Flax: its carry is the tuple (c, h), its weights are drawn as Flax draws them, and its output is the new h itself. One
made with our names carries an LSTMState. Neither takes the other's carry, since a swap of h and c raises nothing.

Flax has one bias. With two, each would get the whole gradient and their sum move twice as far: so in a cell that speaks
Flax bias_hh is held constant, and it trains as Flax's does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm.init import ForgetBias, initializers, per_gate
from jax_lstm.network import Network
from jax_lstm.state import LSTMState

Initializer = Callable[..., Any] | None
SIGMOIDS = (jax.nn.sigmoid, jax.lax.logistic)
TANHS = (jnp.tanh, jax.nn.tanh, jax.lax.tanh)


def one_of(ours: Mapping[str, int | None], flaxs: Mapping[str, int | None], options: Mapping[str, Any]) -> bool:
    """Whether a cell speaks Flax: made with its names for the sizes, and not with ours.

    Raises:
      TypeError: sizes by both names, or not all by either; or one of ``options``, which are Flax's, with our names.
    """
    given = {name: value for name, value in {**ours, **flaxs}.items() if value is not None}
    mine, theirs = " and ".join(ours), " and ".join(flaxs)
    if given.keys() not in (ours.keys(), flaxs.keys()):
        raise TypeError(
            f"an LSTMCell needs {mine}, for a carry that is an LSTMState, or else Flax's {theirs}, for one that is "
            f"(c, h); got {given or 'neither'}."
        )
    speaks_flax = given.keys() == flaxs.keys()
    asked = [name for name, value in options.items() if value is not None]
    if asked and not speaks_flax:
        raise TypeError(
            f"{asked[0]} is an option of Flax's cell, for one made with {theirs}; got {mine}. With these, style= and "
            "forget_bias= choose the initial weights."
        )
    return speaks_flax


def check_activations(gate_fn: Any, activation_fn: Any) -> None:
    """ValueError where a function is given that this cell does not compute."""
    for name, given, known, called in (
        ("gate_fn", gate_fn, SIGMOIDS, "sigmoid"),
        ("activation_fn", activation_fn, TANHS, "tanh"),
    ):
        if given is not None and not any(given is function for function in known):
            raise ValueError(
                f"{name} must be {called}, which is what this cell computes; got {getattr(given, '__name__', given)}. "
                "Keep Flax's own cell for another function."
            )


def refuse_options(given: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
    """Of options that Flax has and this cell has no place for, an empty one passes. ValueError, TypeError."""
    for name, value in given.items():
        if name not in reasons:
            raise TypeError(f"LSTMCell has no argument {name!r}.")
        if value:
            raise ValueError(f"{name} is not supported here: {reasons[name]}. Leave it out, or keep Flax's own cell.")


def cell_initializers(
    network: Network,
    style: str | None,
    forget_bias: ForgetBias,
    kernel_init: Initializer = None,
    recurrent_kernel_init: Initializer = None,
    bias_init: Initializer = None,
    speaks_flax: bool = False,
    fused: bool = False,
) -> dict[str, Callable[..., Any]]:
    """``init(key, dtype)`` by torch.nn.LSTMCell's names.

    Flax's initialisers draw a gate's [in, out] kernel at a time, or ``fused`` those of all gates at once. What
    ``bias_init`` draws is bias_ih, beside zeros.
    """
    if fused and style is None:
        recurrent_kernel_init = recurrent_kernel_init or jax.nn.initializers.orthogonal()
    inits = initializers(network, style=style or ("flax" if speaks_flax else "torch"), forget_bias=forget_bias)
    cell = {name.removesuffix("_l0"): init for name, init in inits.items()}
    for name, init in (("weight_ih", kernel_init), ("weight_hh", recurrent_kernel_init), ("bias_ih", bias_init)):
        if init is not None:
            cell[name] = per_gate(init, network.cell_shapes()[name], 1 if fused else network.num_gates)
    return cell


def held(params: dict[str, Any], speaks_flax: bool) -> dict[str, Any]:
    """The parameters with bias_hh constant in a cell that speaks Flax."""
    if not speaks_flax or "bias_hh" not in params:
        return params
    return params | {"bias_hh": jax.lax.stop_gradient(params["bias_hh"])}


def as_state(carry: Any, speaks_flax: bool) -> LSTMState:
    """A carry as an LSTMState. TypeError where it is not of the kind that the cell speaks."""
    is_pair = isinstance(carry, (tuple, list)) and len(carry) == 2
    if speaks_flax and is_pair:
        return LSTMState(h=carry[1], c=carry[0])
    if speaks_flax:
        raise TypeError(
            f"carry must be the tuple (c, h), since this cell was made with Flax's names; got {type(carry).__name__}. "
            "Write (state.c, state.h), or make the cell with our names for an LSTMState."
        )
    if not isinstance(carry, LSTMState):
        advice = "Write LSTMState(h=..., c=...), or make the cell with Flax's names for its (c, h)." * is_pair
        raise TypeError(f"carry must be an LSTMState; got {type(carry).__name__}. {advice}".rstrip())
    return carry


def as_carry(state: LSTMState, y: jax.Array, speaks_flax: bool) -> tuple[Any, jax.Array]:
    """What a cell returns: the carry of its kind, and its output."""
    return ((state.c, state.h), state.h) if speaks_flax else (state, y)


def drawn_carry(init: Callable[..., Any], keys: tuple[Any, Any], shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """Flax's initial carry (c, h)."""
    return init(keys[0], shape, dtype), init(keys[1], shape, dtype)
