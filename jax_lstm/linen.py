"""Flax linen modules: thin shells that declare the parameters and call the functions.

``variables["params"]`` is a torch state dict, so a torch checkpoint needs no mapping. Initial states are zeros and
need no RNG. ``dtype`` is the compute dtype, ``param_dtype`` that of the weights, as everywhere in Flax. Sizes may be
given by position, every other option is given by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm import in_place
from jax_lstm.checks import require_same_shapes
from jax_lstm.init import ForgetBias, Style
from jax_lstm.initial_state import zeros_of
from jax_lstm.lstm import lstm
from jax_lstm.module_init import Rebox, as_drawn, module_initializers, reversed_names
from jax_lstm.network import Network
from jax_lstm.options import Backend, Residuals
from jax_lstm.shells import (
    SizesByPosition,
    cast,
    embed,
    feature_size,
    linear,
    state_dict_entries,
    state_dtype,
    uniform_init,
)
from jax_lstm.state import LSTMState
from jax_lstm.streaming import lstm_step, lstm_stream


class LSTM(SizesByPosition, nn.Module):
    """torch.nn.LSTM as a linen module; its options mean what they mean in :func:`jax_lstm.lstm`.

    Attributes:
      hidden_size: H. torch.nn.LSTM(D, H) is linen.LSTM(H), since D is read from x.
      style, forget_bias: choose the initial weights, see :func:`jax_lstm.init_lstm`.
      kernel_init, recurrent_kernel_init, bias_init: Flax's initialisers in their place, for weight_ih, weight_hh and
        bias_ih of every layer and direction. They draw one gate at a time, kernels as ``[in, H]``. With
        ``nn.with_partitioning(init, names)`` the names are those of the kernel's axes, in and out, as in Flax; the
        parameter is ``[4H, in]``, and its metadata has them in that order. Beside ``bias_init``, bias_hh is zero.
      deterministic: whether there is no dropout. It may be given here or to the call, which has precedence. With
        ``dropout`` it must be given.
      return_state: if False, calls give y only, as a layer of nn.Sequential must.
    """

    _in_torch = "torch.nn.LSTM({0}, {1}) is linen.LSTM({1}): D is read from x."

    hidden_size: int
    _: KW_ONLY
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0
    time_major: bool = False
    dropout: float = 0.0
    style: Style = "torch"
    forget_bias: ForgetBias = None
    kernel_init: Any = None
    recurrent_kernel_init: Any = None
    bias_init: Any = None
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
    return_state: bool = True

    def __call__(
        self,
        x: Any,
        state: LSTMState | None = None,
        lengths: Any = None,
        reset: Any = None,
        deterministic: bool | None = None,
        mask: Any = None,
        reset_state: LSTMState | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """Runs the layers; arguments, results and errors as :func:`jax_lstm.lstm`.

        ``deterministic=False`` turns dropout on, with a key from the RNG collection "dropout". Flax's lifted
        transformations, such as flax.linen.vmap, want these arguments by position.

        Raises ValueError, beside the function's errors, if there is dropout and ``deterministic`` is given nowhere.
        """
        x, params = self._cast_with_params(x)
        dropout = self._active_dropout(deterministic)
        y, last = lstm(
            params,
            x,
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
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
        return (y, last) if self.return_state else y  # type: ignore[return-value]

    @nn.nowrap
    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: Any = None) -> LSTMState:
        """Return the state of zeros that a call without one starts from, as :func:`jax_lstm.zero_state`.

        ``dtype=None`` means the dtype of the carry, by the weights that the module is bound to, or by ``param_dtype``.
        """
        weights = {} if self.scope is None else _opened(state_dict_entries(self.variables.get("params", {})))
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, weights.values(), self.param_dtype)
        return zeros_of(self._network(input_size=1), batch_shape, dtype)  # the state does not depend on D

    def step(self, x: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """One step, x ``[*batch, D]``, as :func:`jax_lstm.lstm_step`; call it by ``apply(..., method="step")``.

        There is no dropout in it. ``init(..., method="step")`` declares the parameters.
        """
        x, params = self._cast_with_params(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision)

    def stream(self, x: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """A chunk of any length by the same steps, as :func:`jax_lstm.lstm_stream`; by ``method="stream"``."""
        x, params = self._cast_with_params(x)
        options = {"time_major": self.time_major, "carry_dtype": self.carry_dtype, "precision": self.precision}
        return lstm_stream(params, x, state, **options)

    @nn.compact
    def _cast_with_params(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """x and the parameters in ``dtype``. This is the only compact method, so that all others can declare them."""
        network = self._network(feature_size(x))
        inits = module_initializers(network, self.style, self.forget_bias, _given_inits(self), _open_box)
        return cast(self.dtype, (x, _declare(self, inits, network.shapes())))

    @nn.nowrap
    def _network(self, input_size: int) -> Network:
        sizes = (input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional, self.proj_size)
        return Network("lstm", *sizes)

    @nn.nowrap
    def _active_dropout(self, deterministic: bool | None) -> float:
        """The rate of dropout of a call; zero in a deterministic one."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if self.dropout and deterministic is None:
            raise ValueError(
                f"dropout={self.dropout} needs deterministic, in the call or as an option of the module; got None. "
                "Pass deterministic=True to evaluate, deterministic=False and rngs={'dropout': key} to train."
            )
        return 0.0 if deterministic else self.dropout


class LSTMCell(SizesByPosition, nn.RNNCellBase):
    """torch.nn.LSTMCell, or Flax's own, as a Flax RNN cell: works inside flax.linen's RNN and Bidirectional.

    Made with ``hidden_size``, its carry is an :class:`LSTMState`. Inside flax.linen.RNN, its rules for ``seq_lengths``
    hold and not ours: outputs in the padding are not zero, a row of length 0 runs on over its padding, and NaN in the
    padding reaches the gradients. Use :class:`LSTM` with ``lengths`` where that matters.

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
            network, self.style, self.forget_bias, _given_inits(self), _open_box, speaks_flax=self._speaks_flax
        )
        return in_place.step(
            _declare(self, inits, network.cell_shapes()),
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
                raise ValueError("rng must be given where carry_init is, to draw the carry; got None.")
            shape = (*input_shape[:-1], self._width)
            return in_place.drawn_carry(self.carry_init, tuple(jax.random.split(rng)), shape, self.param_dtype)
        given = {} if self.scope is None else _opened(state_dict_entries(self.variables.get("params", {})))
        return in_place.zeros(
            input_shape,
            self._width,
            given.values(),
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


class SequenceModel(SizesByPosition, nn.Module):
    """Embedding -> LSTM -> fully connected layer: torch_ref.SequenceModel, parameter for parameter.

    The parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias`` (nested dicts; joined
    by "." they are the torch model's state dict). ``lstm_options`` go to :class:`LSTM`.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    output_size: int
    _: KW_ONLY
    num_layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    deterministic: bool | None = None
    return_state: bool = True
    lstm_options: Any = None

    def setup(self):
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.embedding = Embedding(self.vocab_size, self.embedding_size, **kinds)
        self.lstm = LSTM(**self._lstm_options())
        self.fc = Linear(self.output_size, precision=self.precision, **kinds)

    def __call__(
        self,
        tokens: Any,
        state: LSTMState | None = None,
        lengths: Any = None,
        reset: Any = None,
        deterministic: bool | None = None,
        mask: Any = None,
        reset_state: LSTMState | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """tokens int ``[*batch, T]`` -> logits ``[*batch, T, output_size]`` and the LSTM's last state.

        The other arguments are those of :meth:`LSTM.__call__`. With dropout, ``deterministic`` is given here or to the
        module. Raises TypeError if tokens are no integers.
        """
        y, last = self.lstm(self.embedding(tokens), state, lengths, reset, deterministic, mask, reset_state)
        return (self.fc(y), last) if self.return_state else self.fc(y)  # type: ignore[return-value]

    @nn.nowrap
    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: Any = None) -> LSTMState:
        """Return the state of zeros that a call without one starts from, as :meth:`LSTM.zero_state`."""
        lstm = self.lstm if self.scope is not None else LSTM(**self._lstm_options(), parent=None)
        return lstm.zero_state(batch_shape, dtype)

    @nn.nowrap
    def _lstm_options(self) -> dict[str, Any]:
        return dict(
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            dropout=self.dropout,
            bidirectional=self.bidirectional,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            deterministic=self.deterministic,
            return_state=True,
            **(self.lstm_options or {}),
        )

    def step(self, tokens: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """One token a row, int ``[*batch]`` -> logits ``[*batch, output_size]`` and the state, by :meth:`LSTM.step`."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(SizesByPosition, nn.Module):
    """torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1)."""

    vocab_size: int
    size: int
    _: KW_ONLY
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Any) -> jax.Array:
        weight = self.param("weight", jax.nn.initializers.normal(1.0), (self.vocab_size, self.size), self.param_dtype)
        return embed(cast(self.dtype, weight), tokens)


class Linear(SizesByPosition, nn.Module):
    """torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in)."""

    _in_torch = "torch.nn.Linear({0}, {1}) is linen.Linear({1}): the input's size is read from x."

    size: int
    _: KW_ONLY
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


def _given_inits(module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in ("kernel_init", "recurrent_kernel_init", "bias_init")}


def _declare(
    module: Any, inits: Mapping[str, Callable[..., Any]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Declare the parameters, unboxed.

    Flax hands a module the parameters that it declares and keeps quiet about others: so they are compared here. A
    subclass may have others, if their names are none of a torch state dict's.
    """
    given = module.variables.get("params", {})
    if given and not module.is_initializing():
        ours = given if type(module) in _OURS else state_dict_entries(given)
        require_same_shapes(_opened(ours), shapes, f"linen.{type(module).__name__}")
    return {name: module.param(name, init, module.param_dtype) for name, init in inits.items()}


def _open_box(drawn: Any) -> tuple[Any, Rebox]:
    """Take Flax's metadata off an array, see :func:`jax_lstm.module_init.as_drawn`."""
    if isinstance(drawn, nn.Partitioned):
        names = drawn.names
        return drawn.value, lambda array, transposed: drawn.replace(
            value=array, names=reversed_names(names) if transposed else names
        )
    if isinstance(drawn, nn.meta.AxisMetadata):  # names no axes
        return drawn.unbox(), lambda array, transposed: drawn.replace_boxed(array)
    return as_drawn(drawn)


def _opened(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays without metadata, and without the sharding constraints that nn.unbox would put on them."""
    return {name: _open_box(value)[0] for name, value in params.items()}


_OURS = (LSTM, LSTMCell, OptimizedLSTMCell)
