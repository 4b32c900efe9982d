"""A single cell as an nnx module, with our carry or with Flax's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype

from jax_lstm._src import flax_compat
from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Precision
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.module_constructor import sizes_by_position
from jax_lstm._src.module_init import Initializer
from jax_lstm._src.network import Network
from jax_lstm.nnx.parameters import draw, inits_of, metadata_of, open_box, params_of
from jax_lstm.nnx.signature import Signed

_UNSUPPORTED = {
    "keep_rngs": "an initial carry of zeros needs none; give rngs to initialize_carry",
    "promote_dtype": "dtype, param_dtype and carry_dtype decide all dtypes",
}


class LSTMCell(nnx.RNNCellBase, metaclass=Signed):
    """An LSTM cell as torch.nn.LSTMCell, or as Flax's own, for use in flax.nnx's RNN and Bidirectional.

    With ``input_size`` and ``hidden_size``, its carry is a `jax_lstm.LSTMState`. Inside flax.nnx.RNN, Flax's rules for
    ``seq_lengths`` apply, and not ours: outputs in the padding are not zero, a row of length 0 runs over its padding,
    and NaN in the padding reaches the gradients. Use `jax_lstm.nnx.LSTM` with ``lengths`` if that matters.

    With sizes by position, or as ``in_features`` and ``hidden_features``, it replaces flax.nnx's LSTMCell and
    OptimizedLSTMCell. Its carry is then Flax's (c, h), of ``param_dtype``. Its initial weights are Flax's
    (``style="flax"``), integer inputs are promoted, and it has Flax's options. Flax has one bias. Therefore bias_hh is
    zero at first and is held constant, so that training is the same. The parameters keep torch's names:
    `jax_lstm.convert.from_nnx` reads Flax's.

    For both kinds, the next carry has the promoted dtype of the carry, the inputs and the weights, or ``carry_dtype``.

    Args:
      in_features: D, the width of the inputs, by Flax's name. The cell then replaces Flax's.
      hidden_features: H, the number of hidden units, by Flax's name.
      input_size: D, by torch's name. Exactly one of the two pairs of sizes must be given.
      hidden_size: H, by torch's name.
      bias: whether the gates have biases.
      style: the rule for the initial weights, as for `jax_lstm.init_lstm`. None means "flax" with Flax's names, and
        "torch" with torch's.
      forget_bias: as for `jax_lstm.init_lstm`.
      dtype: dtype of the computation. None means the result type of the inputs and the weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of the next carry, and of `initialize_carry`.
      precision: as for `jax_lstm.lstm`.
      gate_fn: an option of Flax's cell; sigmoid or None.
      activation_fn: an option of Flax's cell; tanh or None.
      kernel_init: a Flax initialiser for weight_ih, as for `jax_lstm.nnx.LSTM`. It draws one gate at a time.
      recurrent_kernel_init: the same for weight_hh.
      bias_init: the same for bias_ih. bias_hh is then zero.
      kernel_metadata: metadata of weight_ih, as for `jax_lstm.nnx.LSTM`.
      recurrent_kernel_metadata: metadata of weight_hh.
      bias_metadata: metadata of bias_ih and bias_hh.
      carry_init: an option of Flax's cell: the initialiser of its initial carry. None means zeros.
      rngs: the keys to draw the parameters with. They are not stored.
      **unsupported: Flax's ``keep_rngs`` and ``promote_dtype``, which must have Flax's defaults.

    Raises:
      TypeError: sizes are given by both kinds of names, or not all sizes by one kind; or an option that only Flax's
        cell has is given with torch's names.
      ValueError: ``gate_fn`` is not sigmoid, or ``activation_fn`` is not tanh, or ``keep_rngs`` or ``promote_dtype``
        does not have Flax's default.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> cell = jax_lstm.nnx.LSTMCell(input_size=8, hidden_size=16, rngs=nnx.Rngs(0))
      >>> rnn = nnx.RNN(cell)
      >>> rnn(jnp.ones((4, 10, 8))).shape, cell.weight_ih.shape
      ((4, 10, 16), (64, 8))
    """

    if TYPE_CHECKING:  # The parameters. The biases exist if bias is True.
        weight_ih: nnx.Param[jax.Array]
        weight_hh: nnx.Param[jax.Array]
        bias_ih: nnx.Param[jax.Array]
        bias_hh: nnx.Param[jax.Array]

    fused = False  # whether Flax's cell of this name draws the kernels of all gates at once

    @sizes_by_position("torch.nn.LSTMCell({0}, {1}, {2}) is nnx.LSTMCell(input_size={0}, hidden_size={1}, bias={2}).")
    def __init__(
        self,
        in_features: int | None = None,
        hidden_features: int | None = None,
        *,
        input_size: int | None = None,
        hidden_size: int | None = None,
        bias: bool = True,
        style: Style | None = None,
        forget_bias: ForgetBias = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_dtype: DTypeLike | None = None,
        precision: Precision = None,
        gate_fn: Callable[..., Any] | None = None,
        activation_fn: Callable[..., Any] | None = None,
        kernel_init: Initializer = None,
        recurrent_kernel_init: Initializer = None,
        bias_init: Initializer = None,
        kernel_metadata: Mapping[str, Any] | None = None,
        recurrent_kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        carry_init: Initializer = None,
        rngs: nnx.Rngs,
        **unsupported: Any,
    ) -> None:
        if unsupported.get("promote_dtype") is flax_promote_dtype:
            del unsupported["promote_dtype"]
        flax_compat.refuse_options(unsupported, _UNSUPPORTED)
        flax_compat.check_activations(gate_fn, activation_fn)
        options = {"gate_fn": gate_fn, "activation_fn": activation_fn, "carry_init": carry_init}
        ours = {"input_size": input_size, "hidden_size": hidden_size}
        flaxs = {"in_features": in_features, "hidden_features": hidden_features}
        self.follows_flax = flax_compat.follows_flax(ours, flaxs, options)
        inputs, hidden = (flaxs if self.follows_flax else ours).values()
        self.network = Network("lstm", inputs or 0, hidden or 0, bias=bias)
        self.in_features, self.hidden_features = self.network.input_size, self.network.hidden_size
        self.dtype, self.param_dtype, self.carry_dtype, self.precision = dtype, param_dtype, carry_dtype, precision
        self.carry_init = carry_init
        given = inits_of(kernel_init, recurrent_kernel_init, bias_init)
        metadata = metadata_of(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        inits = flax_compat.cell_initializers(
            self.network, style, forget_bias, given, open_box, follows_flax=self.follows_flax, fused=self.fused
        )
        draw(self, inits, metadata, param_dtype, rngs)

    def __call__(self, carry: Any, inputs: ArrayLike) -> tuple[Any, Array]:
        """Run one step.

        Args:
          carry: a `jax_lstm.LSTMState` of ``[*batch, H]``; with Flax's names, the tuple (c, h).
          inputs: ``[*batch, D]``.

        Returns:
          The next carry, and h in the compute dtype; with Flax's names, the new h of the carry itself.

        Raises:
          ValueError: a shape is wrong.
          TypeError: ``carry`` is of the other kind, or an array is not in floating point.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> cell = jax_lstm.nnx.LSTMCell(8, 16, rngs=nnx.Rngs(0))  # by Flax's names
          >>> (c, h), y = cell(cell.initialize_carry((4, 8)), jnp.ones((4, 8)))
          >>> y.shape
          (4, 16)
        """
        return flax_compat.step(
            params_of(self, self.network.cell_shapes()),
            carry,
            inputs,
            dtype=self.dtype,
            carry_dtype=self.carry_dtype,
            precision=self.precision,
            follows_flax=self.follows_flax,
        )

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Initializer = None) -> Any:
        """Return a carry of zeros, or one that ``carry_init`` draws. A `jax_lstm.LSTMState` has the dtype of the
        weights.

        Args:
          input_shape: the shape of the inputs, ``[*batch, D]``.
          rngs: an nnx.Rngs or an nnx.RngStream. It is used only with ``carry_init``.
          carry_init: an initialiser of Flax's cell. None means the cell's own, or else zeros.

        Returns:
          A `jax_lstm.LSTMState` of ``[*batch, H]``; with Flax's names, the tuple (c, h).

        Raises:
          ValueError: ``carry_init`` is given without ``rngs``, or to a cell with torch's names.

        Examples:
          >>> from flax import nnx
          >>> import jax_lstm
          >>> cell = jax_lstm.nnx.LSTMCell(input_size=8, hidden_size=16, rngs=nnx.Rngs(0))
          >>> state = cell.initialize_carry((4, 8))
          >>> state.h.shape, state.c.shape
          ((4, 16), (4, 16))
        """
        carry_init = carry_init or self.carry_init
        if carry_init is not None and not self.follows_flax:
            raise ValueError("carry_init must be None: this cell starts from zeros. Pass an initial carry instead.")
        if carry_init is not None:
            if rngs is None:
                raise ValueError("rngs must be given if carry_init is, to draw the carry; got None.")
            next_key = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
            shape = (*input_shape[:-1], self.network.hidden_size)
            return flax_compat.draw_carry(carry_init, (next_key(), next_key()), shape, self.param_dtype)
        return flax_compat.zeros(
            input_shape,
            self.network.hidden_size,
            params_of(self, self.network.cell_shapes()).values(),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            carry_dtype=self.carry_dtype,
            follows_flax=self.follows_flax,
        )

    @property
    def num_feature_axes(self) -> int:
        """Return the number of feature axes of the inputs, which flax.nnx.RNN asks for."""
        return 1


class OptimizedLSTMCell(LSTMCell):
    """The `jax_lstm.nnx.LSTMCell` by Flax's other name. Its initialisers draw the kernels of all gates at once.

    Its options, methods and errors are those of `jax_lstm.nnx.LSTMCell`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> rnn = nnx.RNN(jax_lstm.nnx.OptimizedLSTMCell(8, 16, rngs=nnx.Rngs(0)))
      >>> rnn(jnp.ones((4, 10, 8))).shape
      (4, 10, 16)
    """

    fused = True
