"""What lets our cells stand in the place of Flax's own: its argument names, its carry (c, h), its initialisers.

A cell whose sizes come by position or by Flax's names, ``features`` (linen) or ``in_features`` and ``hidden_features``
(nnx), speaks Flax: its carry is the tuple (c, h), promoted at each step as in Flax, its weights are drawn as Flax draws
them, and its output is the new h itself. One made with torch's names carries an LSTMState. Neither takes the other's
carry, since a swap of h and c raises nothing.

Flax has one bias. With two, each would get the whole gradient and their sum move twice as far: so in a cell that speaks
Flax bias_hh is held constant, and it trains as Flax's does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.checks import require_floating
from jax_lstm._src.dtypes import compute_dtype, widest_dtype
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.layers import cast, run_cell, state_dtype, zero_carry
from jax_lstm._src.module_init import Initializer, OpenBox, module_initializers
from jax_lstm._src.network import Network
from jax_lstm._src.state import LSTMState

SIGMOIDS = (jax.nn.sigmoid, jax.lax.logistic)
TANHS = (jnp.tanh, jax.nn.tanh, jax.lax.tanh)


def one_of(ours: Mapping[str, int | None], flaxs: Mapping[str, int | None], options: Mapping[str, Any]) -> bool:
    """Whether a cell speaks Flax: made with its names for the sizes, and not with ours.

    Raises:
      TypeError: sizes by both names, or not all by either; or one of ``options``, which only Flax's cell has, with our
        names; or an option that is no function.
    """
    given = {name: value for name, value in {**ours, **flaxs}.items() if value is not None}
    mine, theirs = " and ".join(ours), " and ".join(flaxs)
    if given.keys() not in (ours.keys(), flaxs.keys()):
        raise TypeError(
            f"an LSTMCell needs {mine}, for a carry that is an LSTMState, or else Flax's {theirs}, for one that is "
            f"(c, h). A size by position is Flax's. Got {given or 'neither'}."
        )
    speaks_flax = given.keys() == flaxs.keys()
    asked = [name for name, value in options.items() if value is not None]
    if asked and not speaks_flax:
        raise TypeError(
            f"{asked[0]} is an option of Flax's cell, for one made with {theirs}; got {mine}. Leave it out, or make "
            "the cell with Flax's names."
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
    """Raise TypeError or ValueError unless each given option is one of Flax's and is empty."""
    for name, value in given.items():
        if name not in reasons:
            raise TypeError(f"LSTMCell has no argument {name!r}.")
        if value:
            raise ValueError(f"{name} is not supported here: {reasons[name]}. Leave it out, or keep Flax's own cell.")


def cell_initializers(
    network: Network,
    style: Style | None,
    forget_bias: ForgetBias,
    given: Mapping[str, Initializer],
    open_box: OpenBox,
    *,
    speaks_flax: bool,
    fused: bool = False,
) -> dict[str, Callable[..., Any]]:
    """``init(key, dtype)`` by torch.nn.LSTMCell's names.

    Arguments and errors as :func:`jax_lstm._src.module_init.module_initializers`. A cell that speaks Flax and has no
    ``style`` draws what Flax's cell draws. If it is ``fused``, so do its initialisers, for all gates at once.
    """
    if not isinstance(network.bias, (bool, np.bool_)):
        raise TypeError(f"bias must be True or False; got {network.bias}.")
    fused = fused and speaks_flax
    if fused and style is None and given["recurrent_kernel_init"] is None:
        given = {**given, "recurrent_kernel_init": jax.nn.initializers.orthogonal()}
    style = style or ("flax" if speaks_flax else "torch")
    inits = module_initializers(network, style, forget_bias, given, open_box, fused=fused)
    return {name.removesuffix("_l0"): init for name, init in inits.items()}


def held(params: dict[str, Any], speaks_flax: bool) -> dict[str, Any]:
    """The parameters with bias_hh constant in a cell that speaks Flax."""
    if not speaks_flax or "bias_hh" not in params:
        return params
    return params | {"bias_hh": jax.lax.stop_gradient(params["bias_hh"])}


def step(
    params: dict[str, Any], carry: Any, x: Any, *, dtype: Any, carry_dtype: Any, precision: Any, speaks_flax: bool
) -> tuple[Any, jax.Array]:
    """One step of a cell: the next carry, of the given one's kind, and the output.

    The next carry has the promoted dtype of the carry, x and the weights, or ``carry_dtype`` if that is given. So a
    carry that is narrower than the weights is never used silently: in a scan it is JAX's error about the carry's type.
    """
    state = as_state(carry, speaks_flax)
    if speaks_flax:
        x = _as_floating(x, dtype, params)
    require_floating("x", x, "[*batch, D]")
    if not speaks_flax:
        require_floating("state.h", state.h, "[*batch, H]")
        require_floating("state.c", state.c, "[*batch, H]")
    x, params = cast(dtype, (x, held(params, speaks_flax)))
    h = cast(dtype, state.h) if speaks_flax else state.h  # Flax casts h as it casts x, and c keeps its own dtype
    if speaks_flax:  # Flax multiplies h by the weights in the wider dtype of the two
        x, params = cast(widest_dtype(compute_dtype(x, params), h.dtype), (x, params))
    wide = widest_dtype(compute_dtype(x, params), h.dtype, state.c.dtype)
    state = LSTMState(h=h.astype(wide), c=state.c.astype(wide))
    state, y = run_cell(params, state, x, carry_dtype or wide, precision)
    return as_carry(state, y, speaks_flax)


def _as_floating(x: Any, dtype: Any, params: dict[str, Any]) -> Any:
    """Integers and bools in the compute dtype, as Flax promotes them."""
    if not hasattr(x, "dtype") or not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == jnp.bool_):
        return x
    return x.astype(dtype or jnp.result_type(*params.values()))


def zeros(
    input_shape: tuple[int, ...],
    width: int,
    weights: Iterable[Any],
    *,
    dtype: Any,
    param_dtype: Any,
    carry_dtype: Any,
    speaks_flax: bool,
) -> Any:
    """A cell's carry of zeros.

    Its dtype is ``carry_dtype`` or, in a cell that speaks Flax, ``param_dtype``, or else :func:`state_dtype`.
    """
    if carry_dtype is None and speaks_flax:
        carry_dtype = param_dtype
    state = zero_carry(input_shape, width, state_dtype(carry_dtype, dtype, weights, param_dtype))
    return as_carry(state, state.h, speaks_flax)[0]


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
