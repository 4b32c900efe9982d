"""Initial weights, by the conventions of four libraries. The docstring of `jax_lstm.init_lstm` has the table of the
rules.

For an RNN the rules are the same, except that haiku uses 1/√D and 1/√H, as its VanillaRNN has two linear layers.
``forget_bias`` replaces the bias of the forget gate: b_ih holds it, and b_hh is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.arrays import Array, DTypeLike
from jax_lstm._src.cell import GATE_ORDER
from jax_lstm._src.checks import is_int, require_floating_dtype
from jax_lstm._src.dtypes import accumulation_dtype
from jax_lstm._src.network import Network

ForgetBias: TypeAlias = float | str | None
Style = Literal["torch", "flax", "keras", "haiku"]
Draw: TypeAlias = Callable[[Array, Any], Any]  # (key, dtype) -> an array, or a box of Flax's around one
Rule: TypeAlias = Callable[[Array, tuple[int, ...], Any], Any]  # (key, shape, dtype) -> the same


def init_lstm(
    key: Array,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    style: Style = "torch",
    forget_bias: ForgetBias = None,
    dtype: DTypeLike = jnp.float32,
) -> dict[str, jax.Array]:
    """Draw the weights of an LSTM, as a torch.nn.LSTM state dict of arrays.

    | style | weight_ih, per gate | weight_hh, per gate | biases | forget bias |
    |---|---|---|---|---|
    | "torch" | U(±1/√H) | U(±1/√H) | both U(±1/√H) | none added |
    | "flax" | lecun_normal | orthogonal | 0 | 0 |
    | "keras" | glorot_uniform on all gates, ``[D, 4H]`` | orthogonal on all gates, ``[H, 4H]`` | 0 | 1 |
    | "haiku" | truncated normal, 1/√(D+H) | the same | 0 | 1 |

    A projection ``weight_hr`` follows the rule of its style for a dense layer: U(±1/√H), lecun_normal, glorot_uniform,
    or truncated normal with 1/√H.

    Args:
      key: a jax.random key.
      input_size: D, the width of x.
      hidden_size: H, the number of hidden units.
      num_layers: L, the number of layers.
      bias: whether the gates have biases.
      bidirectional: whether there is a reverse direction.
      proj_size: P, the width of the projection of h, smaller than H; 0 means no projection.
      style: the library whose rules are followed: "torch", "flax", "keras" or "haiku", see the table.
      forget_bias: the sum of the forget gate's two biases, a number or "chrono:N"; None means the style's own.
        "chrono:N" is chrono initialisation (Tallec & Ollivier 2018): b_f = log U(1, N-1), and b_i = -b_f for the input
        gate. It lets memories and gradients last for about N steps.
      dtype: floating-point dtype of every array.

    Returns:
      Arrays by torch's names, shapes and order: ``weight_ih_l{k} [4H, D]``, ``weight_hh_l{k} [4H, P]``, ``bias_ih_l{k}
      [4H]``, ``bias_hh_l{k} [4H]`` and ``weight_hr_l{k} [P, H]`` per layer k. In later layers, D is directions * P. The
      names of the reverse direction end in ``_reverse``.

    Raises:
      ValueError: a size, ``style`` or ``forget_bias`` has a wrong value. The message names the argument, what is
        expected and what was given.
      TypeError: ``dtype`` or ``forget_bias`` has a wrong type.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16, style="keras")
      >>> {name: array.shape for name, array in params.items()}
      {'weight_ih_l0': (64, 8), 'weight_hh_l0': (64, 16), 'bias_ih_l0': (64,), 'bias_hh_l0': (64,)}
    """
    network = Network("lstm", input_size, hidden_size, num_layers, bias, bidirectional, proj_size)
    return init_network(key, network, style=style, forget_bias=forget_bias, dtype=dtype)


def init_rnn(
    key: Array,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    style: Style = "torch",
    dtype: DTypeLike = jnp.float32,
) -> dict[str, jax.Array]:
    """Draw the weights of an Elman RNN, as a torch.nn.RNN state dict of arrays.

    Args:
      key: a jax.random key.
      input_size: D, the width of x.
      hidden_size: H, the number of hidden units.
      num_layers: L, the number of layers.
      bias: whether there are biases.
      bidirectional: whether there is a reverse direction.
      style: "torch", "flax", "keras" or "haiku", with the rules of `jax_lstm.init_lstm`. haiku's scales are 1/√D and
        1/√H, since its VanillaRNN has two linear layers.
      dtype: floating-point dtype of every array.

    Returns:
      Arrays by torch's names, shapes and order: ``weight_ih_l{k} [H, D]``, ``weight_hh_l{k} [H, H]``, ``bias_ih_l{k}
      [H]`` and ``bias_hh_l{k} [H]`` per layer k.

    Raises:
      ValueError: as `jax_lstm.init_lstm`.
      TypeError: as `jax_lstm.init_lstm`.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_rnn(jax.random.key(0), 8, 16)
      >>> {name: array.shape for name, array in params.items()}
      {'weight_ih_l0': (16, 8), 'weight_hh_l0': (16, 16), 'bias_ih_l0': (16,), 'bias_hh_l0': (16,)}
    """
    network = Network("rnn", input_size, hidden_size, num_layers, bias, bidirectional)
    return init_network(key, network, style=style, dtype=dtype)


def init_network(
    key: Array,
    network: Network,
    *,
    style: Style = "torch",
    forget_bias: ForgetBias = None,
    dtype: DTypeLike = jnp.float32,
) -> dict[str, Array]:
    """Draw every parameter of ``network``, each from its own key."""
    require_floating_dtype("dtype", dtype)
    inits = initializers(network, style=style, forget_bias=forget_bias)
    keys = jax.random.split(key, len(inits))
    return {name: init(k, dtype) for k, (name, init) in zip(keys, inits.items(), strict=True)}


def initializers(network: Network, *, style: Style = "torch", forget_bias: ForgetBias = None) -> dict[str, Draw]:
    """Return ``init(key, dtype)`` by name, in the order of torch's state dict."""
    check_network(network)
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(map(repr, STYLES))}; got {style!r}.")
    forget = _forget_rule(network, style, forget_bias)
    inits = {}
    for layer, suffix in network.rows:
        for name, shape in network.cell_shapes(layer).items():
            init = STYLES[style](network, layer, name, shape)
            if forget is not None and name.startswith("bias"):
                init = _with_forget_bias(init, forget, network.hidden_size, in_this_bias=name == "bias_ih")
            inits[f"{name}_l{layer}{suffix}"] = init
    return inits


def check_network(network: Network) -> None:
    """Raise ValueError unless the sizes of ``network`` are integers in their ranges."""
    for name in ("input_size", "hidden_size", "num_layers"):
        value = getattr(network, name)
        if not is_int(value) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1; got {value!r}.")
    if not is_int(network.proj_size) or not 0 <= network.proj_size < network.hidden_size:
        raise ValueError(
            f"proj_size must be 0 (none) or smaller than hidden_size = {network.hidden_size}; "
            f"got {network.proj_size!r}."
        )


def _torch(network: Network, layer: int, name: str, shape: tuple[int, ...]) -> Draw:
    bound = 1 / math.sqrt(network.hidden_size)
    return lambda key, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def _flax(network: Network, layer: int, name: str, shape: tuple[int, ...]) -> Draw:
    if name.startswith("bias"):
        return _constant(shape, 0.0)
    rule = jax.nn.initializers.orthogonal() if name == "weight_hh" else jax.nn.initializers.lecun_normal()
    return _transposed(rule, shape, blocks=1 if name == "weight_hr" else network.num_gates)


def _keras(network: Network, layer: int, name: str, shape: tuple[int, ...]) -> Draw:
    if name.startswith("bias"):
        return _constant(shape, 0.0)
    rule = jax.nn.initializers.orthogonal() if name == "weight_hh" else jax.nn.initializers.glorot_uniform()
    return _transposed(rule, shape, blocks=1)


def _haiku(network: Network, layer: int, name: str, shape: tuple[int, ...]) -> Draw:
    if name.startswith("bias"):
        return _constant(shape, 0.0)
    joint = network.kind == "lstm" and name != "weight_hr"
    fan_in = network.input_size_of(layer) + network.output_size if joint else shape[1]
    scale = 1 / math.sqrt(fan_in)
    return lambda key, dtype: scale * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


STYLES: dict[Style, Callable[[Network, int, str, tuple[int, ...]], Draw]] = {
    "torch": _torch,
    "flax": _flax,
    "keras": _keras,
    "haiku": _haiku,
}
_STYLE_FORGET_BIAS: dict[Style, float] = {"keras": 1.0, "haiku": 1.0}


def _constant(shape: tuple[int, ...], value: float) -> Draw:
    return lambda key, dtype: jnp.full(shape, value, dtype)


def per_gate(rule: Rule, shape: tuple[int, ...], gates: int) -> Draw:
    """Return ``init(key, dtype)`` for an array of ``gates`` gates, from a rule for the array of one gate.

    A matrix is drawn as kernels [in, out], and a bias as it is.
    """
    if len(shape) == 2:
        return _transposed(rule, shape, gates)

    def init(key: Array, dtype: DTypeLike) -> Array:
        drawn = [rule(k, (shape[0] // gates,), dtype) for k in jax.random.split(key, gates)]
        return jnp.concatenate(drawn).astype(dtype)

    return init


def _transposed(rule: Rule, shape: tuple[int, ...], blocks: int) -> Draw:
    """Return an init that draws ``blocks`` kernels [in, out] side by side, and stores them [out, in] as torch does.

    It draws in at least float32, since narrow types lack the factorisation that gives an orthogonal matrix.
    """
    out, fan_in = shape

    def init(key: Array, dtype: DTypeLike) -> Array:
        wide = accumulation_dtype(dtype)
        kernels = [rule(k, (fan_in, out // blocks), wide) for k in jax.random.split(key, blocks)]
        return jnp.concatenate(kernels, axis=1).T.astype(dtype)

    return init


def _forget_rule(network: Network, style: Style, forget_bias: ForgetBias) -> Callable[[Array], dict[str, Array]] | None:
    """Return a function from a key to the biases of the gates that it sets, or None if the style's own biases stay."""
    if forget_bias is None:
        value = _STYLE_FORGET_BIAS.get(style) if network.kind == "lstm" and network.bias else None
        return None if value is None else lambda key: {"f": jnp.full(network.hidden_size, value)}
    if network.kind != "lstm" or not network.bias:
        raise ValueError(f"forget_bias must be None if there is no bias of a forget gate; got {forget_bias!r}.")
    if isinstance(forget_bias, str):
        return _chrono(network.hidden_size, _chrono_length(forget_bias))
    if isinstance(forget_bias, bool) or not isinstance(forget_bias, (int, float, np.number)):
        raise TypeError(f"forget_bias must be a number, 'chrono:N' or None; got {forget_bias!r}.")
    return lambda key: {"f": jnp.full(network.hidden_size, float(forget_bias))}


def _chrono_length(forget_bias: str) -> int:
    name, _, length = forget_bias.partition(":")
    if name != "chrono" or not length.isdecimal() or int(length) < 3:
        raise ValueError(
            "forget_bias must be a number, 'chrono:N' with N of at least 3 (steps to remember), or None; "
            f"got {forget_bias!r}."
        )
    return int(length)


def _chrono(hidden_size: int, length: int) -> Callable[[Array], dict[str, Array]]:
    def draw(key: Array) -> dict[str, Array]:
        b_f = jnp.log(jax.random.uniform(key, (hidden_size,), minval=1.0, maxval=length - 1.0))
        return {"f": b_f, "i": -b_f}

    return draw


def _with_forget_bias(
    init: Draw, forget: Callable[[Array], dict[str, Array]], hidden_size: int, in_this_bias: bool
) -> Draw:
    """Return ``init`` with the gates that ``forget`` sets replaced: by its values in one bias, by zero in the other."""

    def replaced(key: Array, dtype: DTypeLike) -> Array:
        bias: Array = init(key, dtype)
        for gate, values in forget(jax.random.fold_in(key, 1)).items():
            start = GATE_ORDER.index(gate) * hidden_size
            values = values.astype(dtype) if in_this_bias else jnp.zeros(hidden_size, dtype)
            bias = bias.at[start : start + hidden_size].set(values)
        return bias

    return replaced
