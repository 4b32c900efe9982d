"""A single cell as a linen module, with our carry or with Flax's."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm._src import flax_compat
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.layers import SizesByPosition, feature_size
from jax_lstm._src.network import Network
from jax_lstm.linen.parameters import bound_weights, declare, given_inits, open_box


class LSTMCell(SizesByPosition, nn.RNNCellBase):
    """torch.nn.LSTMCell, or Flax's own, as a Flax RNN cell: works inside flax.linen's RNN and Bidirectional.

    Made with ``hidden_size``, its carry is an :class:`LSTMState`. Inside flax.linen.RNN, its rules for ``seq_lengths``
    hold and not ours: outputs in the padding are not zero, a row of length 0 runs on over its padding, and NaN in the
    padding reaches the gradients. Use :class:`LSTM` with ``lengths`` if that matters.

    In the place of flax.linen's LSTMCell and OptimizedLSTMCell it is made as they are, ``LSTMCell(256)`` or
    ``LSTMCell(features=256)``: then its carry is Flax's (c, h), of ``param_dtype``, its initial weights are Flax's
    (``style="flax"``), integer inputs are promoted, and Flax's options are its own, applied a gate at a time;
    ``gate_fn`` and ``activation_fn`` must be sigmoid and tanh. Flax has one bias: bias_hh, zero at first, is held
    constant, so that training is the same. The parameters keep torch's names: :func:`jax_lstm.convert.from_flax` reads
    Flax's.

    Of both kinds, the next carry has the promoted dtype of the carry, the inputs and the weights, or ``carry_dtype``.
    ``kernel_init``, ``recurrent_kernel_init`` and ``bias_init`` are as for :class:`LSTM`.

    Raises:
      TypeError: both ``features`` and ``hidden_size`` are given, or neither; ``hidden_size`` and an option of Flax's.
      ValueError: ``gate_fn`` is no sigmoid, or ``activation_fn`` is no tanh.
    """

    _in_torch = "torch.nn.LSTMCell({0}, {1}) is linen.LSTMCell(hidden_size={1}): D is read from x."

    features: int | None = None
    _: KW_ONLY
    hidden_size: int | None = None
    bias: bool = True
    style: Style | None = None
    forget_bias: ForgetBias = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    carry_dtype: Any = None
    precision: Any = None
    gate_fn: Any = None
    activation_fn: Any = None
    kernel_init: Any = None
    recurrent_kernel_init: Any = None
    bias_init: Any = None
    carry_init: Any = None

    def __post_init__(self):
        options = {name: getattr(self, name) for name in ("gate_fn", "activation_fn", "carry_init")}
        flax_compat.one_of({"hidden_size": self.hidden_size}, {"features": self.features}, options)
        flax_compat.check_activations(self.gate_fn, self.activation_fn)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        """carry: LSTMState of [*batch, H], inputs [*batch, D] -> the next carry, and h in the compute dtype.

        With ``features`` the carry is (c, h), and the output is the new h of the carry.
        """
        network = Network("lstm", feature_size(inputs), self._width, bias=self.bias)
        inits = flax_compat.cell_initializers(
            network, self.style, self.forget_bias, given_inits(self), open_box, speaks_flax=self._speaks_flax
        )
        return flax_compat.step(
            declare(self, inits, network.cell_shapes()),
            carry,
            inputs,
            dtype=self.dtype,
            carry_dtype=self.carry_dtype,
            precision=self.precision,
            speaks_flax=self._speaks_flax,
        )

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Any:
        """Zeros for inputs of shape ``[*batch, D]``; ``rng`` is used only for ``carry_init``, and else may be None.

        An LSTMState has the dtype of the weights that the module is bound to, or of ``param_dtype`` if there are none.
        """
        if self.carry_init is not None:
            if rng is None:
                raise ValueError("rng must be given if carry_init is, to draw the carry; got None.")
            shape = (*input_shape[:-1], self._width)
            return flax_compat.drawn_carry(self.carry_init, tuple(jax.random.split(rng)), shape, self.param_dtype)
        return flax_compat.zeros(
            input_shape,
            self._width,
            bound_weights(self),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            carry_dtype=self.carry_dtype,
            speaks_flax=self._speaks_flax,
        )

    @property
    def _speaks_flax(self) -> bool:
        return self.features is not None

    @property
    def _width(self) -> int:
        return self.hidden_size or self.features or 0

    @property
    def num_feature_axes(self) -> int:
        return 1


class OptimizedLSTMCell(LSTMCell):
    """:class:`LSTMCell` by Flax's other name, so that Flax's automatic name ``OptimizedLSTMCell_0`` stays the same."""
