"""A single cell as a linen module, with our carry or with Flax's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm._src import flax_compat
from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Precision
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.module_constructor import SizesByPosition
from jax_lstm._src.module_init import Initializer
from jax_lstm._src.module_params import feature_size
from jax_lstm._src.network import Network
from jax_lstm.linen.parameters import bound_weights, declare, given_inits, open_box


class LSTMCell(SizesByPosition, nn.RNNCellBase):
    """An LSTM cell as torch.nn.LSTMCell, or as Flax's own, for use in flax.linen's RNN and Bidirectional.

    With ``hidden_size``, its carry is a `jax_lstm.LSTMState`. Inside flax.linen.RNN, Flax's rules for ``seq_lengths``
    apply, and not ours: outputs in the padding are not zero, a row of length 0 runs over its padding, and NaN in the
    padding reaches the gradients. Use `jax_lstm.linen.LSTM` with ``lengths`` if that matters.

    With ``LSTMCell(256)`` or ``LSTMCell(features=256)``, it replaces flax.linen's LSTMCell and OptimizedLSTMCell. Its
    carry is then Flax's (c, h), of ``param_dtype``. Its initial weights are Flax's (``style="flax"``), integer inputs
    are promoted, and it has Flax's options. Flax has one bias. Therefore bias_hh is zero at first and is held constant,
    so that training is the same. The parameters keep torch's names: `jax_lstm.convert.from_flax` reads Flax's.

    For both kinds, the next carry has the promoted dtype of the carry, the inputs and the weights, or ``carry_dtype``.

    Attributes:
      features: H, the number of hidden units, by Flax's name. The cell then replaces Flax's. It may be given by
        position.
      hidden_size: H, by torch's name. Exactly one of ``features`` and ``hidden_size`` must be given.
      bias: whether the gates have biases. The default is True.
      style: the rule for the initial weights, as for `jax_lstm.init_lstm`. None means "flax" with ``features``, and
        "torch" with ``hidden_size``.
      forget_bias: as for `jax_lstm.init_lstm`.
      dtype: dtype of the computation. None means the result type of the inputs and the weights.
      param_dtype: dtype of the weights, float32 by default.
      carry_dtype: dtype of the next carry, and of `initialize_carry`.
      precision: as for `jax_lstm.lstm`.
      gate_fn: an option of Flax's cell; sigmoid or None.
      activation_fn: an option of Flax's cell; tanh or None.
      kernel_init: a Flax initialiser for weight_ih, as for `jax_lstm.linen.LSTM`. It draws one gate at a time.
      recurrent_kernel_init: the same for weight_hh.
      bias_init: the same for bias_ih. bias_hh is then zero.
      carry_init: an option of Flax's cell: the initialiser of its initial carry. None means zeros.

    Raises:
      TypeError: both ``features`` and ``hidden_size`` are given, or neither; or ``hidden_size`` and an option that only
        Flax's cell has.
      ValueError: ``gate_fn`` is not sigmoid, or ``activation_fn`` is not tanh.

    Examples:
      >>> import flax.linen, jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> rnn = flax.linen.RNN(jax_lstm.linen.LSTMCell(hidden_size=16))
      >>> y, variables = rnn.init_with_output(jax.random.key(0), jnp.ones((4, 10, 8)))
      >>> y.shape, variables["params"]["cell"]["weight_ih"].shape
      ((4, 10, 16), (64, 8))
    """

    _in_torch = "torch.nn.LSTMCell({0}, {1}) is linen.LSTMCell(hidden_size={1}): D is read from x."

    features: int | None = None
    _: KW_ONLY
    hidden_size: int | None = None
    bias: bool = True
    style: Style | None = None
    forget_bias: ForgetBias = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_dtype: DTypeLike | None = None
    precision: Precision = None
    gate_fn: Callable[..., Any] | None = None
    activation_fn: Callable[..., Any] | None = None
    kernel_init: Initializer = None
    recurrent_kernel_init: Initializer = None
    bias_init: Initializer = None
    carry_init: Initializer = None

    def __post_init__(self) -> None:
        options = {name: getattr(self, name) for name in ("gate_fn", "activation_fn", "carry_init")}
        flax_compat.follows_flax({"hidden_size": self.hidden_size}, {"features": self.features}, options)
        flax_compat.check_activations(self.gate_fn, self.activation_fn)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Any, inputs: ArrayLike) -> tuple[Any, Array]:
        """Run one step.

        Args:
          carry: a `jax_lstm.LSTMState` of ``[*batch, H]``; with ``features``, the tuple (c, h).
          inputs: ``[*batch, D]``.

        Returns:
          The next carry, and h in the compute dtype; with ``features``, the new h of the carry itself.

        Raises:
          ValueError: a shape is wrong.
          TypeError: ``carry`` is of the other kind, or an array is not in floating point.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> cell = jax_lstm.linen.LSTMCell(16)  # in the place of flax.linen.LSTMCell(16)
          >>> carry = cell.initialize_carry(None, (4, 8))
          >>> variables = cell.init(jax.random.key(0), carry, jnp.ones((4, 8)))
          >>> (c, h), y = cell.apply(variables, carry, jnp.ones((4, 8)))
          >>> y.shape
          (4, 16)
        """
        network = Network("lstm", feature_size(inputs), self._width, bias=self.bias)
        inits = flax_compat.cell_initializers(
            network, self.style, self.forget_bias, given_inits(self), open_box, follows_flax=self._follows_flax
        )
        return flax_compat.step(
            declare(self, inits, network.cell_shapes()),
            carry,
            inputs,
            dtype=self.dtype,
            carry_dtype=self.carry_dtype,
            precision=self.precision,
            follows_flax=self._follows_flax,
        )

    @nn.nowrap
    def initialize_carry(self, rng: Array | None, input_shape: tuple[int, ...]) -> Any:
        """Return a carry of zeros, or one that ``carry_init`` draws.

        A `jax_lstm.LSTMState` has the dtype of the weights that the module is bound to, or ``param_dtype`` if it is not
        bound.

        Args:
          rng: a jax.random key. It is used only for ``carry_init``; otherwise it may be None.
          input_shape: the shape of the inputs, ``[*batch, D]``.

        Returns:
          A `jax_lstm.LSTMState` of ``[*batch, H]``; with ``features``, the tuple (c, h).

        Raises:
          ValueError: ``carry_init`` is given, but ``rng`` is None.

        Examples:
          >>> import jax_lstm
          >>> state = jax_lstm.linen.LSTMCell(hidden_size=16).initialize_carry(None, (4, 8))
          >>> state.h.shape, state.c.shape
          ((4, 16), (4, 16))
        """
        if self.carry_init is not None:
            if rng is None:
                raise ValueError("rng must be given if carry_init is, to draw the carry; got None.")
            first, second = jax.random.split(rng)
            shape = (*input_shape[:-1], self._width)
            return flax_compat.draw_carry(self.carry_init, (first, second), shape, self.param_dtype)
        return flax_compat.zeros(
            input_shape,
            self._width,
            bound_weights(self),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            carry_dtype=self.carry_dtype,
            follows_flax=self._follows_flax,
        )

    @property
    def _follows_flax(self) -> bool:
        return self.features is not None

    @property
    def _width(self) -> int:
        return self.hidden_size or self.features or 0

    @property
    def num_feature_axes(self) -> int:
        """Return the number of feature axes of the inputs, which flax.linen.RNN asks for."""
        return 1


class OptimizedLSTMCell(LSTMCell):
    """The `jax_lstm.linen.LSTMCell` by Flax's other name, so that Flax's automatic name ``OptimizedLSTMCell_0`` stays.

    Its options, methods and errors are those of `jax_lstm.linen.LSTMCell`.

    Examples:
      >>> import flax.linen, jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> rnn = flax.linen.RNN(jax_lstm.linen.OptimizedLSTMCell(16))
      >>> rnn.init_with_output(jax.random.key(0), jnp.ones((4, 10, 8)))[0].shape
      (4, 10, 16)
    """
