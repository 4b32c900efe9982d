"""What lets our cells stand in the place of Flax's own: its argument names, its carry (c, h), its initialisers.

A cell that is made with Flax's names, ``features`` (linen) or ``in_features`` and ``hidden_features`` (nnx), speaks
Flax: its carry is the tuple (c, h), promoted at each step as in Flax, its weights are drawn as Flax draws them, and its
output is the new h itself. One made with our names carries an LSTMState. Neither takes the other's carry, since a swap
of h and c raises nothing.

Flax has one bias. With two, each would get the whole gradient and their sum move twice as far: so in a cell that speaks
Flax bias_hh is held constant, and it trains as Flax's does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm.checks import require_floating
from jax_lstm.init import ForgetBias, initializers, per_gate
from jax_lstm.network import Network
from jax_lstm.shells import cast, run_cell
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
    for name in asked:
        if not callable(options[name]):
            raise TypeError(f"{name} must be a function; got {type(options[name]).__name__}.")
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

    Raises:
      ValueError: ``bias_init`` where there is no bias or ``forget_bias`` is given; an initialiser, as it draws, that
        gives no array of the shape that it was asked for.
      TypeError: a bias that is a function, as Flax's gate_fn by position would be.
    """
    if callable(network.bias):
        raise TypeError(f"bias must be True or False; got {network.bias}. Give options of Flax's cell by name.")
    if bias_init is not None and (forget_bias is not None or not network.bias):
        beside = "forget_bias" if network.bias else "bias=False"
        raise ValueError(f"bias_init must be left out beside {beside}; got both, and they contradict each other.")
    if fused and style is None:
        recurrent_kernel_init = recurrent_kernel_init or jax.nn.initializers.orthogonal()
    inits = initializers(network, style=style or ("flax" if speaks_flax else "torch"), forget_bias=forget_bias)
    cell = {name.removesuffix("_l0"): init for name, init in inits.items()}
    for name, option, init in (
        ("weight_ih", "kernel_init", kernel_init),
        ("weight_hh", "recurrent_kernel_init", recurrent_kernel_init),
        ("bias_ih", "bias_init", bias_init),
    ):
        if init is not None:
            shape = network.cell_shapes()[name]
            cell[name] = per_gate(_checked(option, init), shape, 1 if fused else network.num_gates)
    if bias_init is not None:
        cell["bias_hh"] = lambda key, dtype: jnp.zeros(network.cell_shapes()["bias_hh"], dtype)
    return cell


def _checked(option: str, init: Callable[..., Any]) -> Callable[..., Any]:
    """An initialiser whose draws are arrays of the shape asked for: boxes with metadata are none."""

    def checked(key, shape, dtype):
        drawn = init(key, shape, dtype)
        if not isinstance(drawn, (jax.Array, np.ndarray)) or drawn.shape != shape:
            came = f"shape {drawn.shape}" if hasattr(drawn, "shape") else type(drawn).__name__
            raise ValueError(
                f"{option} must be a function (key, shape, dtype) -> an array of that shape, {shape}; got {came}. "
                "Metadata, such as a partitioning, would be of one gate's [in, out] and not of this cell's arrays: "
                "attach it to these, which are torch's, [4H, in]."
            )
        return drawn

    return checked


def held(params: dict[str, Any], speaks_flax: bool) -> dict[str, Any]:
    """The parameters with bias_hh constant in a cell that speaks Flax."""
    if not speaks_flax or "bias_hh" not in params:
        return params
    return params | {"bias_hh": jax.lax.stop_gradient(params["bias_hh"])}


def step(
    params: dict[str, Any], carry: Any, x: Any, dtype: Any, precision: Any, speaks_flax: bool
) -> tuple[Any, jax.Array]:
    """One step of a cell: the next carry, of the given one's kind, and the output."""
    state = as_state(carry, speaks_flax)
    if speaks_flax:
        state, dtype = _promoted(state, params, x, dtype)
    return as_carry(*run_cell(held(params, speaks_flax), state, x, dtype, precision), speaks_flax)


def _promoted(state: LSTMState, params: dict[str, Any], x: Any, dtype: Any) -> tuple[LSTMState, Any]:
    """Return the state in the dtype of Flax's next carry, and the compute dtype.

    Flax multiplies h by the weights in the wider dtype of the two, unless ``dtype`` is given. The next carry has the
    wider dtype of that product and of c. Cells that are made with our names keep the dtype of their state instead.
    """
    require_floating("x", x, "[*batch, D]")
    x, params, h = cast(dtype, (x, params, state.h))
    compute = jnp.result_type(x, *params.values(), h)
    widest = jnp.promote_types(compute, state.c.dtype)
    return LSTMState(h=h.astype(widest), c=state.c.astype(widest)), compute


def as_state(carry: Any, speaks_flax: bool) -> LSTMState:
    """A carry as an LSTMState. TypeError where it is not of the kind that the cell speaks.

    A named tuple is no pair here: its order is its own, such as Haiku's (hidden, cell).
    """
    is_pair = type(carry) in (tuple, list) and len(carry) == 2
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
