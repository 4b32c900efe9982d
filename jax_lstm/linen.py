"""Flax linen modules: thin shells that declare the parameters and call the functions.

``variables["params"]`` is a torch state dict, so a torch checkpoint needs no mapping. Initial states are zeros and
need no RNG. ``dtype`` is the compute dtype, ``param_dtype`` that of the weights, as everywhere in Flax.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm import in_place
from jax_lstm.checks import require_same_shapes
from jax_lstm.init import ForgetBias, Style, initializers
from jax_lstm.lstm import lstm
from jax_lstm.network import Network
from jax_lstm.options import Backend, Residuals
from jax_lstm.shells import cast, embed, feature_size, linear, uniform_init, zero_carry
from jax_lstm.state import LSTMState
from jax_lstm.streaming import lstm_step, lstm_stream


class LSTM(nn.Module):
    """torch.nn.LSTM as a linen module; its options mean what they mean in :func:`jax_lstm.lstm`.

    ``style`` and ``forget_bias`` choose the initial weights, see :func:`jax_lstm.init_lstm`. ``deterministic`` may be
    given here or to the call, which has precedence; without either there is no dropout.
    """

    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0
    time_major: bool = False
    dropout: float = 0.0
    style: Style = "torch"
    forget_bias: ForgetBias = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    carry_dtype: Any = None
    checkpoint_every: int | None = None
    truncate_every: int | None = None
    residuals: Residuals = "fast"
    backend: Backend = "auto"
    unroll: int = 1
    precision: Any = None
    deterministic: bool | None = None

    @nn.compact
    def __call__(
        self,
        x: Any,
        state: LSTMState | None = None,
        lengths: Any = None,
        reset: Any = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """Runs the layers; arguments, results and errors as :func:`jax_lstm.lstm`.

        ``deterministic=False`` turns dropout on, with a key from the RNG collection "dropout". Flax's lifted
        transformations, such as flax.linen.vmap, want these arguments by position.
        """
        network = self._network(x)
        inits = initializers(network, style=self.style, forget_bias=self.forget_bias)
        _check_given(self, network.shapes())
        params = {name: self.param(name, init, self.param_dtype) for name, init in inits.items()}
        x, params = cast(self.dtype, (x, params))
        deterministic = self.deterministic if deterministic is None else deterministic
        dropout = self.dropout if deterministic is False else 0.0
        return lstm(
            params,
            x,
            state,
            lengths=lengths,
            reset=reset,
            time_major=self.time_major,
            dropout=dropout,
            dropout_key=self.make_rng("dropout") if dropout else None,
            checkpoint_every=self.checkpoint_every,
            truncate_every=self.truncate_every,
            residuals=self.residuals,
            carry_dtype=self.carry_dtype,
            backend=self.backend,
            unroll=self.unroll,
            precision=self.precision,
        )

    def step(self, x: Any, state: LSTMState) -> tuple[jax.Array, LSTMState]:
        """One step, x ``[*batch, D]``, as :func:`jax_lstm.lstm_step`; call it by ``apply(..., method="step")``."""
        x, params = self._given(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision)

    def stream(self, x: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """A chunk of any length by the same steps, as :func:`jax_lstm.lstm_stream`; by ``method="stream"``."""
        x, params = self._given(x)
        options = {"time_major": self.time_major, "carry_dtype": self.carry_dtype, "precision": self.precision}
        return lstm_stream(params, x, state, **options)

    def _network(self, x: Any) -> Network:
        sizes = (feature_size(x), self.hidden_size, self.num_layers, self.bias, self.bidirectional, self.proj_size)
        return Network("lstm", *sizes)

    def _given(self, x: Any) -> tuple[Any, Any]:
        """x and the parameters there are, cast; only ``__call__`` declares them."""
        params = self.variables.get("params", {})
        require_same_shapes(params, self._network(x).shapes(), "linen.LSTM")
        return cast(self.dtype, (x, dict(params)))


class LSTMCell(nn.RNNCellBase):
    """torch.nn.LSTMCell as a Flax RNN cell: works inside flax.linen's RNN and Bidirectional.

    The carry is an :class:`LSTMState`. Inside flax.linen.RNN, its rules for ``seq_lengths`` hold and not ours: outputs
    in the padding are not zero, a row of length 0 runs on over its padding, and NaN in the padding reaches the
    gradients. Use :class:`LSTM` with ``lengths`` where that matters.

    In the place of flax.linen's LSTMCell and OptimizedLSTMCell it is made with their ``features`` and not with
    ``hidden_size``: then its carry is Flax's (c, h), of ``param_dtype``, its initial weights are Flax's
    (``style="flax"``), and Flax's options are its own, applied a gate at a time; ``gate_fn`` and ``activation_fn`` must
    be sigmoid and tanh. Flax has one bias: bias_hh, zero at first, is held constant, so that training is the same. The
    parameters keep torch's names: :func:`jax_lstm.convert.from_flax` reads Flax's.

    Raises TypeError, ValueError: an option of Flax's without ``features``, both sizes or none, another function.
    """

    hidden_size: int | None = None
    bias: bool = True
    style: Style | None = None
    forget_bias: ForgetBias = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    carry_dtype: Any = None
    precision: Any = None
    features: int | None = None
    gate_fn: Any = None
    activation_fn: Any = None
    kernel_init: Any = None
    recurrent_kernel_init: Any = None
    bias_init: Any = None
    carry_init: Any = None

    def __post_init__(self):
        of_flax = ("gate_fn", "activation_fn", "kernel_init", "recurrent_kernel_init", "bias_init", "carry_init")
        options = {name: getattr(self, name) for name in of_flax}
        in_place.one_of({"hidden_size": self.hidden_size}, {"features": self.features}, options)
        in_place.check_activations(self.gate_fn, self.activation_fn)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        """carry: LSTMState of [*batch, H], inputs [*batch, D] -> the next carry, and h in the compute dtype.

        With ``features`` the carry is (c, h), and the output is the new h of the carry.
        """
        network = Network("lstm", feature_size(inputs), self._width, bias=self.bias)
        inits = in_place.cell_initializers(
            network,
            self.style,
            self.forget_bias,
            self.kernel_init,
            self.recurrent_kernel_init,
            self.bias_init,
            self._speaks_flax,
        )
        _check_given(self, network.cell_shapes())
        params = {name: self.param(name, init, self.param_dtype) for name, init in inits.items()}
        return in_place.step(params, carry, inputs, self.dtype, self.precision, self._speaks_flax)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Any:
        """Zeros for inputs of shape ``[*batch, D]``; ``rng`` is used for ``carry_init`` alone, and else may be None."""
        if self.carry_init is not None:
            if rng is None:
                raise ValueError("rng must be given where carry_init is, to draw the carry; got None.")
            shape = (*input_shape[:-1], self._width)
            return in_place.drawn_carry(self.carry_init, tuple(jax.random.split(rng)), shape, self.param_dtype)
        compute_dtype = self.param_dtype if self._speaks_flax else self.dtype or self.param_dtype
        dtype = self.carry_dtype or (self.param_dtype if self._speaks_flax else None)
        state = zero_carry(input_shape, self._width, dtype, compute_dtype)
        return in_place.as_carry(state, state.h, self._speaks_flax)[0]

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
    """:class:`LSTMCell` by Flax's other name, after which a module in code of Flax's may name its parameters."""


class SequenceModel(nn.Module):
    """Embedding -> LSTM -> fully connected layer: torch_ref.SequenceModel, parameter for parameter.

    The parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias`` (nested dicts; joined
    by "." they are the torch model's state dict). ``lstm_options`` go to :class:`LSTM`.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    output_size: int
    num_layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    lstm_options: Any = None

    def setup(self):
        self.embedding = Embedding(self.vocab_size, self.embedding_size, self.dtype, self.param_dtype)
        self.lstm = LSTM(
            self.hidden_size,
            self.num_layers,
            dropout=self.dropout,
            bidirectional=self.bidirectional,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            **(self.lstm_options or {}),
        )
        self.fc = Linear(self.output_size, self.dtype, self.param_dtype, self.precision)

    def __call__(self, tokens: Any, state: LSTMState | None = None, **options) -> tuple[jax.Array, LSTMState]:
        """tokens int ``[*batch, T]`` -> logits ``[*batch, T, output_size]`` and the LSTM's last state.

        ``options`` are those of :meth:`LSTM.__call__`. Raises TypeError where tokens are no integers.
        """
        y, state = self.lstm(self.embedding(tokens), state, **options)
        return self.fc(y), state

    def step(self, tokens: Any, state: LSTMState) -> tuple[jax.Array, LSTMState]:
        """One token a row, int ``[*batch]`` -> logits ``[*batch, output_size]`` and the state, by :meth:`LSTM.step`."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(nn.Module):
    """torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1)."""

    vocab_size: int
    size: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Any) -> jax.Array:
        weight = self.param("weight", jax.nn.initializers.normal(1.0), (self.vocab_size, self.size), self.param_dtype)
        return embed(cast(self.dtype, weight), tokens)


class Linear(nn.Module):
    """torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in)."""

    size: int
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        init = uniform_init(x.shape[-1])
        weight = self.param("weight", init, (self.size, x.shape[-1]), self.param_dtype)
        bias = self.param("bias", init, (self.size,), self.param_dtype)
        x, weight, bias = cast(self.dtype, (x, weight, bias))
        return linear(weight, bias, x, self.precision)


def _check_given(module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    """Flax hands a module the parameters that it declares and keeps quiet about others: so they are compared here."""
    if "params" in module.variables and not module.is_initializing():
        require_same_shapes(module.variables["params"], shapes, f"linen.{type(module).__name__}")
