"""The initial weights of the Flax modules: a style, or Flax's own initialisers, with the metadata that these attach.

Flax's initialisers ``(key, shape, dtype) -> array`` draw kernels ``[in, out]``, one per gate. Our arrays are torch's,
``[4H, in]``, and hold all gates. An initialiser with metadata, ``nn.with_partitioning(init, (None, "model"))``, names
the axes of the kernel, in and out. The metadata of the parameter names the parameter's axes, here ``("model", None)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.init import ForgetBias, Style, initializers, per_gate
from jax_lstm._src.network import Network

Initializer = Callable[..., Any] | None
Rebox = Callable[[Any, bool], Any]
OpenBox = Callable[[Any], tuple[Any, Rebox]]

OPTION_OF = {"weight_ih": "kernel_init", "weight_hh": "recurrent_kernel_init", "bias_ih": "bias_init"}


def module_initializers(
    network: Network,
    style: Style,
    forget_bias: ForgetBias,
    given: Mapping[str, Initializer],
    open_box: OpenBox,
    *,
    fused: bool = False,
) -> dict[str, Callable[..., Any]]:
    """Return ``init(key, dtype)`` by torch.nn.LSTM's names.

    Args:
      network: the layers.
      style, forget_bias: as :func:`jax_lstm.init_lstm`, for what ``given`` does not draw.
      given: ``kernel_init``, ``recurrent_kernel_init`` and ``bias_init``, each an initialiser or None. They draw
        weight_ih, weight_hh and bias_ih of every layer and direction. Beside ``bias_init``, bias_hh is zero.
      open_box: takes what an initialiser gives apart, see :func:`as_drawn`.
      fused: whether an initialiser draws the kernels of all gates at once, and not one per gate.

    Raises:
      ValueError: ``bias_init`` beside ``forget_bias`` or ``bias=False``; when it draws, an initialiser that gives no
        array of the shape that it was asked for.
      TypeError: an initialiser that is no function.
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
    """Open nothing: the array itself, and a function that leaves a new array as it is.

    Each Flax API has a function of this kind for its own boxes. It gives the array in a box, and a function ``(array,
    transposed) -> box`` that makes a box with the same metadata, its axes reversed if the array is ``transposed``.
    """
    return drawn, lambda array, transposed: array


def reversed_names(names: Sequence[Any]) -> tuple[Any, ...]:
    """Return the names of a matrix's axes for its transpose. Names that are left out at the end are None."""
    if isinstance(names, str):
        raise TypeError(f"the names of a kernel's axes must be a tuple, such as (None, {names!r}); got {names!r}.")
    names = tuple(names)
    return (*(None,) * (2 - len(names)), *reversed(names))


def _all_gates(option, init, shape, gates, open_box):
    """Draw the array of all gates, in the box of the first gate's kernel."""

    def draw(key, dtype):
        boxes = []

        def rule(key, shape, dtype):
            array, rebox = open_box(init(key, shape, dtype))
            _check_drawn(option, array, shape)
            boxes.append(rebox)
            return array

        array = per_gate(rule, shape, gates)(key, dtype)
        return boxes[0](array, len(shape) == 2)

    return draw


def _zeros_like(init, open_box):
    """Draw zeros, in a box like the one that ``init`` gives."""

    def draw(key, dtype):
        array, rebox = open_box(init(key, dtype))
        return rebox(jnp.zeros_like(array), False)

    return draw


def _check_drawn(option, drawn, shape):
    if not isinstance(drawn, (jax.Array, np.ndarray)) or drawn.shape != shape:
        came = f"shape {drawn.shape}" if hasattr(drawn, "shape") else type(drawn).__name__
        raise ValueError(
            f"{option} must be a function (key, shape, dtype) -> an array of that shape, {shape}; got {came}. For "
            "metadata wrap it by with_partitioning of flax.linen in a linen module, of flax.nnx in an nnx module."
        )
