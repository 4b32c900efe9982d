"""Flax nnx modules: thin shells that hold the parameters and call the functions.

The attributes are a torch state dict's names, each an ``nnx.Param``. No module stores an Rngs: parameters are drawn
in the constructor, initial states are zeros, and dropout takes its key per call. So plain ``jax.jit`` and
``jax.grad`` work on these modules, and no dropout mask repeats unasked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype

from jax_lstm import in_place
from jax_lstm.checks import require_same_shapes
from jax_lstm.init import ForgetBias, Style, initializers
from jax_lstm.lstm import lstm
from jax_lstm.network import Network
from jax_lstm.options import Backend, Residuals
from jax_lstm.shells import cast, embed, linear, uniform_init, zero_carry
from jax_lstm.state import LSTMState
from jax_lstm.streaming import lstm_step, lstm_stream

_REFUSED = {
    "keep_rngs": "an initial carry of zeros needs none; give rngs to initialize_carry",
    "promote_dtype": "dtype, param_dtype and carry_dtype say what is computed in what",
    "kernel_metadata": "its kernels are the rows of weight_ih",
    "recurrent_kernel_metadata": "its kernels are the rows of weight_hh",
    "bias_metadata": "its biases are the rows of bias_ih",
}


def _params(module: nnx.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    given = {name: value for name, value in vars(module).items() if isinstance(value, nnx.Param)}
    require_same_shapes(given, shapes, f"nnx.{type(module).__name__}")
    return {name: given[name][...] for name in shapes}


class LSTM(nnx.Module):
    """torch.nn.LSTM as an nnx module; options mean what they mean in :func:`jax_lstm.lstm` and ``init_lstm``."""

    if TYPE_CHECKING:  # The parameters, whose names depend on the layers, as in model.weight_ih_l0.

        def __getattr__(self, name: str) -> nnx.Param[jax.Array]: ...

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        bidirectional: bool = False,
        proj_size: int = 0,
        time_major: bool = False,
        dropout: float = 0.0,
        style: Style = "torch",
        forget_bias: ForgetBias = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        carry_dtype: Any = None,
        checkpoint_every: int | None = None,
        truncate_every: int | None = None,
        residuals: Residuals = "fast",
        backend: Backend = "auto",
        unroll: int = 1,
        precision: Any = None,
        rngs: nnx.Rngs,
    ):
        self.network = Network("lstm", input_size, hidden_size, num_layers, bias, bidirectional, proj_size)
        self.time_major, self.dropout, self.dtype, self.carry_dtype = time_major, dropout, dtype, carry_dtype
        self.checkpoint_every, self.truncate_every, self.residuals = checkpoint_every, truncate_every, residuals
        self.backend, self.unroll, self.precision = backend, unroll, precision
        for name, init in initializers(self.network, style=style, forget_bias=forget_bias).items():
            setattr(self, name, nnx.Param(init(rngs.params(), param_dtype)))

    def __call__(
        self,
        x: Any,
        state: LSTMState | None = None,
        *,
        lengths: Any = None,
        reset: Any = None,
        dropout_key: Any = None,
    ) -> tuple[jax.Array, LSTMState]:
        """Runs the layers; arguments, results and errors as :func:`jax_lstm.lstm`. A key turns dropout on."""
        x, params = cast(self.dtype, (x, _params(self, self.network.shapes())))
        return lstm(
            params,
            x,
            state,
            lengths=lengths,
            reset=reset,
            time_major=self.time_major,
            dropout=0.0 if dropout_key is None else self.dropout,
            dropout_key=dropout_key,
            checkpoint_every=self.checkpoint_every,
            truncate_every=self.truncate_every,
            residuals=self.residuals,
            carry_dtype=self.carry_dtype,
            backend=self.backend,
            unroll=self.unroll,
            precision=self.precision,
        )

    def step(self, x: Any, state: LSTMState) -> tuple[jax.Array, LSTMState]:
        """One step, x ``[*batch, D]``, as :func:`jax_lstm.lstm_step`."""
        x, params = cast(self.dtype, (x, _params(self, self.network.shapes())))
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision)

    def stream(self, x: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """A chunk of any length by the same steps, as :func:`jax_lstm.lstm_stream`."""
        x, params = cast(self.dtype, (x, _params(self, self.network.shapes())))
        options = {"time_major": self.time_major, "carry_dtype": self.carry_dtype, "precision": self.precision}
        return lstm_stream(params, x, state, **options)


class LSTMCell(nnx.RNNCellBase):
    """torch.nn.LSTMCell as a Flax RNN cell: works inside flax.nnx's RNN and Bidirectional, whose rules then hold.

    The carry is an :class:`LSTMState`; see :class:`jax_lstm.linen.LSTMCell` on ``seq_lengths``.

    In the place of flax.nnx's LSTMCell and OptimizedLSTMCell it is made with their ``in_features`` and
    ``hidden_features``: then its carry is Flax's (c, h), and the rest as for :class:`jax_lstm.linen.LSTMCell`.
    ``keep_rngs``, ``promote_dtype`` and the metadata of kernels and biases, which has no place on arrays of all gates,
    are refused where they are not Flax's defaults.
    """

    if TYPE_CHECKING:  # The parameters; the biases are there if bias is True.
        weight_ih: nnx.Param[jax.Array]
        weight_hh: nnx.Param[jax.Array]
        bias_ih: nnx.Param[jax.Array]
        bias_hh: nnx.Param[jax.Array]

    fused = False  # whether Flax's cell of this name draws the kernels of all gates at once

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        *,
        bias: bool = True,
        style: Style | None = None,
        forget_bias: ForgetBias = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        carry_dtype: Any = None,
        precision: Any = None,
        in_features: int | None = None,
        hidden_features: int | None = None,
        gate_fn: Any = None,
        activation_fn: Any = None,
        kernel_init: Any = None,
        recurrent_kernel_init: Any = None,
        bias_init: Any = None,
        carry_init: Any = None,
        rngs: nnx.Rngs,
        **refused: Any,
    ):
        if refused.get("promote_dtype") is flax_promote_dtype:
            del refused["promote_dtype"]
        in_place.refuse_options(refused, _REFUSED)
        in_place.check_activations(gate_fn, activation_fn)
        inits = (kernel_init, recurrent_kernel_init, bias_init)
        options = dict(zip(("kernel_init", "recurrent_kernel_init", "bias_init"), inits, strict=True))
        options |= {"gate_fn": gate_fn, "activation_fn": activation_fn, "carry_init": carry_init}
        ours = {"input_size": input_size, "hidden_size": hidden_size}
        theirs = {"in_features": in_features, "hidden_features": hidden_features}
        self.speaks_flax = in_place.one_of(ours, theirs, options)
        inputs, hidden = (theirs if self.speaks_flax else ours).values()
        self.network = Network("lstm", inputs or 0, hidden or 0, bias=bias)
        self.in_features, self.hidden_features = self.network.input_size, self.network.hidden_size
        self.dtype, self.param_dtype, self.carry_dtype, self.precision = dtype, param_dtype, carry_dtype, precision
        self.carry_init = carry_init
        fused = self.fused and self.speaks_flax
        drawn = in_place.cell_initializers(self.network, style, forget_bias, *inits, self.speaks_flax, fused)
        for name, init in drawn.items():
            setattr(self, name, nnx.Param(init(rngs.params(), param_dtype)))

    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        """carry: LSTMState of [*batch, H], inputs [*batch, D] -> the next carry, and h in the compute dtype.

        With Flax's names the carry is (c, h), and the output is the new h of the carry.
        """
        params = _params(self, self.network.cell_shapes())
        return in_place.step(params, carry, inputs, self.dtype, self.precision, self.speaks_flax)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Any:
        """Zeros for inputs of shape ``[*batch, D]``; ``rngs`` are used for ``carry_init`` alone, which is Flax's."""
        carry_init = carry_init or self.carry_init
        if carry_init is not None and not self.speaks_flax:
            raise ValueError("carry_init must be None: this cell starts from zeros. Pass an initial carry instead.")
        if carry_init is not None:
            if rngs is None:
                raise ValueError("rngs must be given where carry_init is, to draw the carry; got None.")
            draw = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
            shape = (*input_shape[:-1], self.network.hidden_size)
            return in_place.drawn_carry(carry_init, (draw(), draw()), shape, self.param_dtype)
        compute_dtype = self.param_dtype if self.speaks_flax else self.dtype or self.param_dtype
        dtype = self.carry_dtype or (self.param_dtype if self.speaks_flax else None)
        state = zero_carry(input_shape, self.network.hidden_size, dtype, compute_dtype)
        return in_place.as_carry(state, state.h, self.speaks_flax)[0]

    @property
    def num_feature_axes(self) -> int:
        return 1


class OptimizedLSTMCell(LSTMCell):
    """:class:`LSTMCell` by Flax's other name, whose initialisers draw the kernels of all gates at once."""

    fused = True


class SequenceModel(nnx.Module):
    """Embedding -> LSTM -> fully connected layer: torch_ref.SequenceModel, parameter for parameter.

    Its parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias``. ``lstm_options`` go
    to :class:`LSTM`.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        lstm_options: dict[str, Any] | None = None,
        rngs: nnx.Rngs,
    ):
        self.embedding = Embedding(vocab_size, embedding_size, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.lstm = LSTM(
            embedding_size,
            hidden_size,
            num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
            **(lstm_options or {}),
        )
        width = self.lstm.network.directions * self.lstm.network.output_size
        options = {"dtype": dtype, "param_dtype": param_dtype, "precision": precision}
        self.fc = Linear(width, output_size, **options, rngs=rngs)

    def __call__(self, tokens: Any, state: LSTMState | None = None, **options: Any) -> tuple[jax.Array, LSTMState]:
        """tokens int ``[*batch, T]`` -> logits ``[*batch, T, output_size]`` and the LSTM's last state.

        ``options`` are those of :meth:`LSTM.__call__`. Raises TypeError where tokens are no integers.
        """
        y, state = self.lstm(self.embedding(tokens), state, **options)
        return self.fc(y), state

    def step(self, tokens: Any, state: LSTMState) -> tuple[jax.Array, LSTMState]:
        """One token a row, int ``[*batch]`` -> logits ``[*batch, output_size]`` and the state, by :meth:`LSTM.step`."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(nnx.Module):
    """torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1)."""

    def __init__(self, vocab_size: int, size: int, *, dtype=None, param_dtype=jnp.float32, rngs: nnx.Rngs):
        self.dtype = dtype
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (vocab_size, size), param_dtype))

    def __call__(self, tokens: Any) -> jax.Array:
        return embed(cast(self.dtype, self.weight[...]), tokens)


class Linear(nnx.Module):
    """torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in)."""

    def __init__(self, fan_in: int, size: int, *, dtype=None, param_dtype=jnp.float32, precision=None, rngs: nnx.Rngs):
        self.dtype, self.precision = dtype, precision
        init = uniform_init(fan_in)
        self.weight = nnx.Param(init(rngs.params(), (size, fan_in), param_dtype))
        self.bias = nnx.Param(init(rngs.params(), (size,), param_dtype))

    def __call__(self, x: Any) -> jax.Array:
        x, weight, bias = cast(self.dtype, (x, self.weight[...], self.bias[...]))
        return linear(weight, bias, x, self.precision)
