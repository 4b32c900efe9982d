"""A single cell as an nnx module, with our carry or with Flax's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype

from jax_lstm._src import flax_compat
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.layers import sizes_by_position
from jax_lstm._src.network import Network
from jax_lstm.nnx.parameters import draw, inits_of, metadata_of, open_box, params_of
from jax_lstm.nnx.signature import Signed

_REFUSED = {
    "keep_rngs": "an initial carry of zeros needs none; give rngs to initialize_carry",
    "promote_dtype": "dtype, param_dtype and carry_dtype say what is computed in what",
}


class LSTMCell(nnx.RNNCellBase, metaclass=Signed):
    """torch.nn.LSTMCell, or Flax's own, as a Flax RNN cell: works inside flax.nnx's RNN and Bidirectional.

    Made with ``input_size`` and ``hidden_size``, its carry is an :class:`LSTMState`; see
    :class:`jax_lstm.linen.LSTMCell` on ``seq_lengths``, whose rules are Flax's.

    In the place of flax.nnx's LSTMCell and OptimizedLSTMCell it is made as they are, by position or with their
    ``in_features`` and ``hidden_features``: then its carry is Flax's (c, h), and the rest as for
    :class:`jax_lstm.linen.LSTMCell`. ``keep_rngs`` and ``promote_dtype`` are refused if they are not Flax's defaults.
    Initialisers and metadata are as for :class:`LSTM`.
    """

    if TYPE_CHECKING:  # The parameters; the biases are there if bias is True.
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
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        carry_dtype: Any = None,
        precision: Any = None,
        gate_fn: Any = None,
        activation_fn: Any = None,
        kernel_init: Any = None,
        recurrent_kernel_init: Any = None,
        bias_init: Any = None,
        kernel_metadata: Mapping[str, Any] | None = None,
        recurrent_kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        carry_init: Any = None,
        rngs: nnx.Rngs,
        **refused: Any,
    ):
        if refused.get("promote_dtype") is flax_promote_dtype:
            del refused["promote_dtype"]
        flax_compat.refuse_options(refused, _REFUSED)
        flax_compat.check_activations(gate_fn, activation_fn)
        options = {"gate_fn": gate_fn, "activation_fn": activation_fn, "carry_init": carry_init}
        ours = {"input_size": input_size, "hidden_size": hidden_size}
        theirs = {"in_features": in_features, "hidden_features": hidden_features}
        self.speaks_flax = flax_compat.one_of(ours, theirs, options)
        inputs, hidden = (theirs if self.speaks_flax else ours).values()
        self.network = Network("lstm", inputs or 0, hidden or 0, bias=bias)
        self.in_features, self.hidden_features = self.network.input_size, self.network.hidden_size
        self.dtype, self.param_dtype, self.carry_dtype, self.precision = dtype, param_dtype, carry_dtype, precision
        self.carry_init = carry_init
        given = inits_of(kernel_init, recurrent_kernel_init, bias_init)
        metadata = metadata_of(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        speaks = {"speaks_flax": self.speaks_flax, "fused": self.fused}
        inits = flax_compat.cell_initializers(self.network, style, forget_bias, given, open_box, **speaks)
        draw(self, inits, metadata, param_dtype, rngs)

    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        """carry: LSTMState of [*batch, H], inputs [*batch, D] -> the next carry, and h in the compute dtype.

        If the cell speaks Flax, the carry is (c, h), and the output is the new h of the carry.
        """
        return flax_compat.step(
            params_of(self, self.network.cell_shapes()),
            carry,
            inputs,
            dtype=self.dtype,
            carry_dtype=self.carry_dtype,
            precision=self.precision,
            speaks_flax=self.speaks_flax,
        )

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        """Zeros for inputs of shape ``[*batch, D]``; ``rngs`` are used only for ``carry_init``, which is Flax's.

        An LSTMState has the dtype of the weights.
        """
        carry_init = carry_init or self.carry_init
        if carry_init is not None and not self.speaks_flax:
            raise ValueError("carry_init must be None: this cell starts from zeros. Pass an initial carry instead.")
        if carry_init is not None:
            if rngs is None:
                raise ValueError("rngs must be given if carry_init is, to draw the carry; got None.")
            next_key = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
            shape = (*input_shape[:-1], self.network.hidden_size)
            return flax_compat.drawn_carry(carry_init, (next_key(), next_key()), shape, self.param_dtype)
        return flax_compat.zeros(
            input_shape,
            self.network.hidden_size,
            params_of(self, self.network.cell_shapes()).values(),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            carry_dtype=self.carry_dtype,
            speaks_flax=self.speaks_flax,
        )

    @property
    def num_feature_axes(self) -> int:
        return 1


class OptimizedLSTMCell(LSTMCell):
    """:class:`LSTMCell` by Flax's other name, whose initialisers draw the kernels of all gates at once."""

    fused = True
