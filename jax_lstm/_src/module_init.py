"""The initial weights of the Flax modules: a style, or Flax's own initialisers, with the metadata that these attach.

Flax's initialisers ``(key, shape, dtype) -> array`` draw kernels ``[in, out]``, one per gate. Our arrays are torch's:
``[4H, in]``, with all gates. An initialiser with metadata, such as ``nn.with_partitioning(init, (None, "model"))``,
names the axes of the kernel, in and out. The metadata of our parameter name its axes, here ``("model", None)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.arrays import Array, DTypeLike
from jax_lstm._src.init import Draw, ForgetBias, Rule, Style, initializers, per_gate
from jax_lstm._src.network import Network

Initializer: TypeAlias = Callable[..., Any] | None  # (key, shape, dtype) -> an array, or a box of Flax's around one
Rebox: TypeAlias = Callable[[Any, bool], Any]  # (array, whether its axes are reversed) -> a box with the same metadata
OpenBox: TypeAlias = Callable[[Any], tuple[Any, Rebox]]

OPTION_OF = {"weight_ih": "kernel_init", "weight_hh": "recurrent_kernel_init", "bias_ih": "bias_init"}


def module_initializers(
    network: Network,
    style: Style,
    forget_bias: ForgetBias,
    given: Mapping[str, Initializer],
    open_box: OpenBox,
    *,
    fused: bool = False,
) -> dict[str, Draw]:
    """Return ``init(key, dtype)`` by torch.nn.LSTM's names.

    Args:
      network: the layers.
      style, forget_bias: as for `jax_lstm.init_lstm`, for the parameters that ``given`` does not draw.
      given: ``kernel_init``, ``recurrent_kernel_init`` and ``bias_init``, each an initialiser or None. They draw
        weight_ih, weight_hh and bias_ih of every layer and direction. With ``bias_init``, bias_hh is zero.
      open_box: separates an array from its metadata, see `as_drawn`.
      fused: whether an initialiser draws the kernels of all gates at once, and not one kernel per gate.

    Raises:
      ValueError: ``bias_init`` beside ``forget_bias`` or ``bias=False``. While drawing: an initialiser returned
        something other than an array of the requested shape.
      TypeError: an initialiser is not a function.
    """
    for option, init in given.items():
        if init is not None and not callable(init):
            raise TypeError(f"{option} must be a function; got {type(init).__name__}.")
    if given["bias_init"] is not None and (forget_bias is not None or not network.bias):
        beside = "forget_bias" if network.bias else "bias=False"
        raise ValueError(f"bias_init must be left out beside {beside}; got both, and they contradict each other.")
    inits = initializers(network, style=style, forget_bias=forget_bias)
    gates = 1 if fused else network.num_gates
    for layer, suffix in network.rows:
        shapes, end = network.cell_shapes(layer), f"_l{layer}{suffix}"
        for name, option in OPTION_OF.items():
            init = given[option]
            if init is not None:
                inits[name + end] = _all_gates(option, init, shapes[name], gates, open_box)
        if given["bias_init"] is not None:
            inits["bias_hh" + end] = _zeros_like(inits["bias_ih" + end], open_box)
    return inits


def as_drawn(drawn: Any) -> tuple[Any, Rebox]:
    """Return the array itself, and a function that returns a new array as it is: there is no box.

    Each Flax API has a function of this kind for its own boxes. It returns the array in a box, and a function ``(array,
    transposed) -> box`` that makes a box with the same metadata. If ``transposed``, the names of the axes are reversed.
    """
    return drawn, lambda array, transposed: array


def reversed_names(names: Sequence[Any]) -> tuple[Any, ...]:
    """Return the names of the axes of a transposed matrix. Names that are missing at the end are None."""
    if isinstance(names, str):
        raise TypeError(f"the names of a kernel's axes must be a tuple, such as (None, {names!r}); got {names!r}.")
    names = tuple(names)
    return (*(None,) * (2 - len(names)), *reversed(names))


def _all_gates(option: str, init: Rule, shape: tuple[int, ...], gates: int, open_box: OpenBox) -> Draw:
    """Return an init that draws the array of all gates, in a box like that of the first gate's kernel."""

    def draw(key: Array, dtype: DTypeLike) -> Any:
        boxes: list[Rebox] = []

        def rule(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
            drawn, rebox = open_box(init(key, shape, dtype))
            boxes.append(rebox)
            return _checked_draw(option, drawn, shape)

        array = per_gate(rule, shape, gates)(key, dtype)
        return boxes[0](array, len(shape) == 2)

    return draw


def _zeros_like(init: Draw, open_box: OpenBox) -> Draw:
    """Return an init of zeros, in a box like that of ``init``, which is only traced and draws nothing."""

    def draw(key: Array, dtype: DTypeLike) -> Any:
        boxes: list[Rebox] = []

        def trace() -> Any:
            array, rebox = open_box(init(key, dtype))
            boxes.append(rebox)
            return array

        zeros = jnp.zeros_like(jax.eval_shape(trace))
        return boxes[0](zeros, False)

    return draw


def _checked_draw(option: str, drawn: Any, shape: tuple[int, ...]) -> Any:
    """Return what an initialiser drew. Raise ValueError unless it is an array of the requested shape."""
    if not isinstance(drawn, (jax.Array, np.ndarray)) or drawn.shape != shape:
        came = f"shape {drawn.shape}" if hasattr(drawn, "shape") else type(drawn).__name__
        raise ValueError(
            f"{option} must be a function (key, shape, dtype) -> an array of that shape, {shape}; got {came}. For "
            "metadata wrap it by with_partitioning of flax.linen in a linen module, of flax.nnx in an nnx module."
        )
    return drawn
