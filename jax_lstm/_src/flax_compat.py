"""How our cells replace Flax's own: its argument names, its carry (c, h), its initialisers.

A cell follows Flax if its sizes are given by position or by Flax's names: ``features`` (linen), or ``in_features`` and
``hidden_features`` (nnx). Its carry is then the tuple (c, h), promoted at each step as in Flax. Its weights are drawn
as Flax draws them, and its output is the new h itself. A cell that is made with torch's names carries an LSTMState.
Neither kind accepts the carry of the other, since a swap of h and c raises nothing.

Flax has one bias. With two biases, each would receive the whole gradient, and their sum would move twice as far.
Therefore a cell that follows Flax holds bias_hh constant, and trains as Flax's cell does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.arrays import Abstract, Array, DTypeLike, Precision
from jax_lstm._src.checks import require_floating
from jax_lstm._src.dtypes import cast_floating, compute_dtype, widest_dtype
from jax_lstm._src.init import Draw, ForgetBias, Rule, Style
from jax_lstm._src.module_init import Initializer, OpenBox, module_initializers
from jax_lstm._src.module_state import state_dtype, step_of_cell, zero_carry
from jax_lstm._src.network import Network
from jax_lstm._src.state import LSTMState

SIGMOIDS = (jax.nn.sigmoid, jax.lax.logistic)
TANHS = (jnp.tanh, jax.nn.tanh, jax.lax.tanh)


def follows_flax(ours: Mapping[str, int | None], flaxs: Mapping[str, int | None], options: Mapping[str, Any]) -> bool:
    """Return whether a cell follows Flax: its sizes are given by Flax's names, and not by ours.

    Args:
      ours: the sizes by our names; None if a size is not given.
      flaxs: the sizes by Flax's names.
      options: the options that only Flax's cell has.

    Raises:
      TypeError: sizes are given by both kinds of names, or not all sizes by one kind; or one of ``options`` is given
        with our names, or is not a function.
    """
    given = {name: value for name, value in {**ours, **flaxs}.items() if value is not None}
    our_names, flax_names = " and ".join(ours), " and ".join(flaxs)
    if given.keys() not in (ours.keys(), flaxs.keys()):
        raise TypeError(
            f"an LSTMCell needs {our_names}, for a carry that is an LSTMState, or else Flax's {flax_names}, for one "
            f"that is (c, h). A size by position is Flax's. Got {given or 'neither'}."
        )
    has_flax_names = given.keys() == flaxs.keys()
    requested = [name for name, value in options.items() if value is not None]
    if requested and not has_flax_names:
        raise TypeError(
            f"{requested[0]} is an option of Flax's cell, for one made with {flax_names}; got {our_names}. Leave it "
            "out, or make the cell with Flax's names."
        )
    for name in requested:
        if not callable(options[name]):
            raise TypeError(f"{name} must be a function; got {type(options[name]).__name__}.")
    return has_flax_names


def check_activations(gate_fn: Any, activation_fn: Any) -> None:
    """Raise ValueError if a function is given that this cell does not compute."""
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
    """Raise TypeError for an option that Flax does not have, and ValueError if an option of Flax's is set.

    ``reasons`` says for each of Flax's options why it is not supported.
    """
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
    follows_flax: bool,
    fused: bool = False,
) -> dict[str, Draw]:
    """Return ``init(key, dtype)`` by the names of torch.nn.LSTMCell.

    Arguments and errors are those of `jax_lstm._src.module_init.module_initializers`. A cell that follows Flax
    and has no ``style`` draws what Flax's cell draws. If ``fused``, its initialisers draw the kernels of all gates at
    once.
    """
    if not isinstance(network.bias, (bool, np.bool_)):
        raise TypeError(f"bias must be True or False; got {network.bias}.")
    fused = fused and follows_flax
    if fused and style is None and given["recurrent_kernel_init"] is None:
        given = {**given, "recurrent_kernel_init": jax.nn.initializers.orthogonal()}
    style = style or ("flax" if follows_flax else "torch")
    inits = module_initializers(network, style, forget_bias, given, open_box, fused=fused)
    return {name.removesuffix("_l0"): init for name, init in inits.items()}


def hold_bias(params: dict[str, Array], follows_flax: bool) -> dict[str, Array]:
    """Return the parameters, with bias_hh constant in a cell that follows Flax."""
    if not follows_flax or "bias_hh" not in params:
        return params
    return params | {"bias_hh": jax.lax.stop_gradient(params["bias_hh"])}


def step(
    params: dict[str, Array],
    carry: Any,
    x: Any,
    *,
    dtype: DTypeLike | None,
    carry_dtype: DTypeLike | None,
    precision: Precision,
    follows_flax: bool,
) -> tuple[Any, Array]:
    """Run one step of a cell, and return the next carry, of the same kind as ``carry``, and the output.

    The next carry has the promoted dtype of the carry, x and the weights, or ``carry_dtype`` if it is given. A carry
    that is narrower than the weights is therefore never used silently: in a scan, JAX raises an error about its type.
    """
    state = as_state(carry, follows_flax)
    if follows_flax:
        x = _as_floating(x, dtype, params)
    require_floating("x", x, "[*batch, D]")
    if not follows_flax:
        require_floating("state.h", state.h, "[*batch, H]")
        require_floating("state.c", state.c, "[*batch, H]")
    x, params = cast_floating((x, hold_bias(params, follows_flax)), dtype)
    h = cast_floating(state.h, dtype) if follows_flax else state.h  # Flax casts h as it casts x; c keeps its dtype
    if follows_flax:  # Flax multiplies h by the weights in the wider of their dtypes
        x, params = cast_floating((x, params), widest_dtype(compute_dtype(x, params), h.dtype))
    wide = widest_dtype(compute_dtype(x, params), h.dtype, state.c.dtype)
    state = LSTMState(h=h.astype(wide), c=state.c.astype(wide))
    state, y = step_of_cell(params, state, x, carry_dtype or wide, precision)
    return as_carry(state, y, follows_flax)


def _as_floating(x: Any, dtype: DTypeLike | None, params: dict[str, Array]) -> Any:
    """Return x, with integers and bools in the compute dtype, as Flax promotes them."""
    if not hasattr(x, "dtype") or not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == jnp.bool_):
        return x
    return x.astype(dtype or jnp.result_type(*params.values()))


def zeros(
    input_shape: tuple[int, ...],
    width: int,
    weights: Iterable[Abstract],
    *,
    dtype: DTypeLike | None,
    param_dtype: DTypeLike,
    carry_dtype: DTypeLike | None,
    follows_flax: bool,
) -> Any:
    """Return a carry of zeros, of the kind that the cell has.

    Its dtype is ``carry_dtype``. If that is None, it is ``param_dtype`` in a cell that follows Flax, and
    `state_dtype` in any other cell.
    """
    if carry_dtype is None and follows_flax:
        carry_dtype = param_dtype
    state = zero_carry(input_shape, width, state_dtype(carry_dtype, dtype, weights, param_dtype))
    return as_carry(state, state.h, follows_flax)[0]


def as_state(carry: Any, follows_flax: bool) -> LSTMState:
    """Return a carry as an LSTMState. Raise TypeError if it is not of the kind that the cell has.

    A named tuple is not accepted as a pair, since its order may differ, as in Haiku's (hidden, cell).
    """
    is_pair = type(carry) in (tuple, list) and len(carry) == 2
    if follows_flax and is_pair:
        return LSTMState(h=carry[1], c=carry[0])
    if follows_flax:
        raise TypeError(
            f"carry must be the tuple (c, h), since this cell was made with Flax's names; got {type(carry).__name__}. "
            "Write (state.c, state.h), or make the cell with our names for an LSTMState."
        )
    if not isinstance(carry, LSTMState):
        advice = "Write LSTMState(h=..., c=...), or make the cell with Flax's names for its (c, h)." * is_pair
        raise TypeError(f"carry must be an LSTMState; got {type(carry).__name__}. {advice}".rstrip())
    return carry


def as_carry(state: LSTMState, y: Array, follows_flax: bool) -> tuple[Any, Array]:
    """Return the carry, of the kind that the cell has, and the output."""
    return ((state.c, state.h), state.h) if follows_flax else (state, y)


def draw_carry(init: Rule, keys: tuple[Array, Array], shape: tuple[int, ...], dtype: DTypeLike) -> tuple[Array, Array]:
    """Draw Flax's initial carry (c, h)."""
    return init(keys[0], shape, dtype), init(keys[1], shape, dtype)
