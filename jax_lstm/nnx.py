"""Flax nnx modules: thin shells that hold the parameters and call the functions.

The attributes are a torch state dict's names, each an ``nnx.Param`` or, to freeze it, any other ``nnx.Variable``. No
module stores an Rngs: parameters are drawn in the constructor, initial states are zeros, and dropout takes its key per
call. So plain ``jax.jit`` and ``jax.grad`` work on these modules, and no dropout mask repeats unasked. Sizes may be
given by position, every other option is given by name.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.module import ModuleMeta
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype

from jax_lstm import in_place
from jax_lstm.checks import require_same_shapes
from jax_lstm.init import ForgetBias, Style
from jax_lstm.initial_state import zeros_of
from jax_lstm.lstm import lstm
from jax_lstm.module_init import OPTION_OF, Rebox, as_drawn, module_initializers, reversed_names
from jax_lstm.network import Network
from jax_lstm.options import Backend, Residuals
from jax_lstm.shells import cast, embed, linear, sizes_by_position, state_dict_entries, state_dtype, uniform_init
from jax_lstm.state import LSTMState
from jax_lstm.streaming import lstm_step, lstm_stream

_REFUSED = {
    "keep_rngs": "an initial carry of zeros needs none; give rngs to initialize_carry",
    "promote_dtype": "dtype, param_dtype and carry_dtype say what is computed in what",
}


class _Signed(ModuleMeta):
    """nnx's metaclass hides a constructor's signature from inspect; here it is again."""

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class LSTM(nnx.Module, metaclass=_Signed):
    """torch.nn.LSTM as an nnx module; options mean what they mean in :func:`jax_lstm.lstm` and ``init_lstm``.

    Other arguments of the constructor:
      kernel_init, recurrent_kernel_init, bias_init: Flax's initialisers in the place of ``style``, for weight_ih,
        weight_hh and bias_ih of every layer and direction. They draw one gate at a time, kernels as ``[in, H]``. With
        ``nnx.with_partitioning(init, names)`` the names are those of the kernel's axes, in and out, as in Flax; the
        parameter is ``[4H, in]``, and its metadata has them in that order. Beside ``bias_init``, bias_hh is zero.
      kernel_metadata, recurrent_kernel_metadata, bias_metadata: metadata of the same parameters, and of bias_hh, as for
        Flax's layers. Names in ``out_sharding`` are treated in the same way.
      deterministic: whether there is no dropout, see :meth:`__call__`.
      return_state: if False, calls give y only, as a layer of nnx.Sequential must.
      rngs: where the parameters are drawn from; they are not stored.
    """

    if TYPE_CHECKING:  # The parameters, whose names depend on the layers, as in model.weight_ih_l0.

        def __getattr__(self, name: str) -> nnx.Param[jax.Array]: ...

    @sizes_by_position("torch.nn.LSTM({0}, {1}, {2}) is nnx.LSTM({0}, {1}, num_layers={2}).")
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
        proj_size: int = 0,
        time_major: bool = False,
        dropout: float = 0.0,
        style: Style = "torch",
        forget_bias: ForgetBias = None,
        kernel_init: Any = None,
        recurrent_kernel_init: Any = None,
        bias_init: Any = None,
        kernel_metadata: Mapping[str, Any] | None = None,
        recurrent_kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        carry_dtype: Any = None,
        checkpoint_every: int | None = None,
        truncate_every: int | None = None,
        residuals: Residuals = "fast",
        backend: Backend = "auto",
        unroll: int = 1,
        precision: Any = None,
        deterministic: bool = False,
        return_state: bool = True,
        rngs: nnx.Rngs,
    ):
        self.network = Network("lstm", input_size, hidden_size, num_layers, bias, bidirectional, proj_size)
        self.time_major, self.dropout, self.dtype, self.carry_dtype = time_major, dropout, dtype, carry_dtype
        self.checkpoint_every, self.truncate_every, self.residuals = checkpoint_every, truncate_every, residuals
        self.backend, self.unroll, self.precision, self.deterministic = backend, unroll, precision, deterministic
        self.param_dtype, self.return_state = param_dtype, return_state
        given = _inits(kernel_init, recurrent_kernel_init, bias_init)
        metadata = _metadata(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        inits = module_initializers(self.network, style, forget_bias, given, _open_box)
        _draw(self, inits, metadata, param_dtype, rngs)

    def __call__(
        self,
        x: Any,
        state: LSTMState | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        reset_state: LSTMState | None = None,
        dropout_key: Any = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """Runs the layers; arguments, results and errors as :func:`jax_lstm.lstm`.

        With ``dropout``, a call that is not ``deterministic`` is one of training, and needs a ``dropout_key``. The
        call's ``deterministic`` has precedence over the module's, which ``model.train()``, ``model.eval()`` and
        ``nnx.view(model, deterministic=...)`` set. A deterministic call does not use its key.

        Raises ValueError, beside the function's errors, if a call of training with dropout has no key.
        """
        x, params = self._cast_with_params(x)
        dropout = self._active_dropout(deterministic, dropout_key)
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
            dropout_key=dropout_key if dropout else None,
            checkpoint_every=self.checkpoint_every,
            truncate_every=self.truncate_every,
            residuals=self.residuals,
            carry_dtype=self.carry_dtype,
            backend=self.backend,
            unroll=self.unroll,
            precision=self.precision,
        )
        return (y, last) if self.return_state else y  # type: ignore[return-value]

    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: Any = None) -> LSTMState:
        """Return the state of zeros that a call without one starts from, as :func:`jax_lstm.zero_state`.

        ``dtype=None`` means the dtype of the carry, by the weights.
        """
        weights = _params(self, self.network.shapes()).values()
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, weights, self.param_dtype)
        return zeros_of(self.network, batch_shape, dtype)

    def step(self, x: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """One step, x ``[*batch, D]``, as :func:`jax_lstm.lstm_step`. There is no dropout in it."""
        x, params = self._cast_with_params(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision)

    def stream(self, x: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """A chunk of any length by the same steps, as :func:`jax_lstm.lstm_stream`."""
        x, params = self._cast_with_params(x)
        options = {"time_major": self.time_major, "carry_dtype": self.carry_dtype, "precision": self.precision}
        return lstm_stream(params, x, state, **options)

    def set_view(self, deterministic: bool | None = None) -> None:
        """What nnx.view calls.

        Args:
          deterministic: if True, there is no dropout.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _cast_with_params(self, x: Any) -> tuple[Any, dict[str, jax.Array]]:
        return cast(self.dtype, (x, _params(self, self.network.shapes())))

    def _active_dropout(self, deterministic: bool | None, key: Any) -> float:
        """The rate of dropout of a call; zero in a deterministic one."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not self.dropout:
            return 0.0
        if key is None:
            raise ValueError(
                f"dropout={self.dropout} needs dropout_key=jax.random.key(...), or rngs.dropout() of an nnx.Rngs, a "
                "fresh one per call; got None. To evaluate, call model.eval() or pass deterministic=True."
            )
        return self.dropout


class LSTMCell(nnx.RNNCellBase, metaclass=_Signed):
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
        in_place.refuse_options(refused, _REFUSED)
        in_place.check_activations(gate_fn, activation_fn)
        options = {"gate_fn": gate_fn, "activation_fn": activation_fn, "carry_init": carry_init}
        ours = {"input_size": input_size, "hidden_size": hidden_size}
        theirs = {"in_features": in_features, "hidden_features": hidden_features}
        self.speaks_flax = in_place.one_of(ours, theirs, options)
        inputs, hidden = (theirs if self.speaks_flax else ours).values()
        self.network = Network("lstm", inputs or 0, hidden or 0, bias=bias)
        self.in_features, self.hidden_features = self.network.input_size, self.network.hidden_size
        self.dtype, self.param_dtype, self.carry_dtype, self.precision = dtype, param_dtype, carry_dtype, precision
        self.carry_init = carry_init
        given = _inits(kernel_init, recurrent_kernel_init, bias_init)
        metadata = _metadata(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        speaks = {"speaks_flax": self.speaks_flax, "fused": self.fused}
        inits = in_place.cell_initializers(self.network, style, forget_bias, given, _open_box, **speaks)
        _draw(self, inits, metadata, param_dtype, rngs)

    def __call__(self, carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
        """carry: LSTMState of [*batch, H], inputs [*batch, D] -> the next carry, and h in the compute dtype.

        If the cell speaks Flax, the carry is (c, h), and the output is the new h of the carry.
        """
        return in_place.step(
            _params(self, self.network.cell_shapes()),
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
                raise ValueError("rngs must be given where carry_init is, to draw the carry; got None.")
            draw = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
            shape = (*input_shape[:-1], self.network.hidden_size)
            return in_place.drawn_carry(carry_init, (draw(), draw()), shape, self.param_dtype)
        return in_place.zeros(
            input_shape,
            self.network.hidden_size,
            _params(self, self.network.cell_shapes()).values(),
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


class SequenceModel(nnx.Module, metaclass=_Signed):
    """Embedding -> LSTM -> fully connected layer: torch_ref.SequenceModel, parameter for parameter.

    Its parameters are ``embedding.weight``, ``lstm.<state dict>``, ``fc.weight`` and ``fc.bias``. ``lstm_options`` go
    to :class:`LSTM`. ``model.train()`` and ``model.eval()`` say whether there is dropout.
    """

    @sizes_by_position("")
    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        output_size: int,
        *,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        deterministic: bool = False,
        return_state: bool = True,
        lstm_options: dict[str, Any] | None = None,
        rngs: nnx.Rngs,
    ):
        self.return_state = return_state
        kinds = {"dtype": dtype, "param_dtype": param_dtype}
        self.embedding = Embedding(vocab_size, embedding_size, rngs=rngs, **kinds)
        self.lstm = LSTM(
            embedding_size,
            hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            precision=precision,
            deterministic=deterministic,
            return_state=True,
            rngs=rngs,
            **kinds,
            **(lstm_options or {}),
        )
        width = self.lstm.network.directions * self.lstm.network.output_size
        self.fc = Linear(width, output_size, precision=precision, rngs=rngs, **kinds)

    def __call__(
        self,
        tokens: Any,
        state: LSTMState | None = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        reset_state: LSTMState | None = None,
        dropout_key: Any = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """tokens int ``[*batch, T]`` -> logits ``[*batch, T, output_size]`` and the LSTM's last state.

        The other arguments are those of :meth:`LSTM.__call__`, among them the ``dropout_key`` that training needs.
        Raises TypeError if tokens are no integers.
        """
        y, last = self.lstm(
            self.embedding(tokens),
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
            dropout_key=dropout_key,
            deterministic=deterministic,
        )
        return (self.fc(y), last) if self.return_state else self.fc(y)  # type: ignore[return-value]

    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: Any = None) -> LSTMState:
        """Return the state of zeros that a call without one starts from, as :meth:`LSTM.zero_state`."""
        return self.lstm.zero_state(batch_shape, dtype)

    def step(self, tokens: Any, state: LSTMState | None = None) -> tuple[jax.Array, LSTMState]:
        """One token a row, int ``[*batch]`` -> logits ``[*batch, output_size]`` and the state, by :meth:`LSTM.step`."""
        y, state = self.lstm.step(self.embedding(tokens), state)
        return self.fc(y), state


class Embedding(nnx.Module, metaclass=_Signed):
    """torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1)."""

    @sizes_by_position("")
    def __init__(
        self, vocab_size: int, size: int, *, dtype: Any = None, param_dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        self.dtype = dtype
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (vocab_size, size), param_dtype))

    def __call__(self, tokens: Any) -> jax.Array:
        return embed(cast(self.dtype, self.weight[...]), tokens)


class Linear(nnx.Module, metaclass=_Signed):
    """torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in)."""

    @sizes_by_position("")
    def __init__(
        self,
        fan_in: int,
        size: int,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ):
        self.dtype, self.precision = dtype, precision
        init = uniform_init(fan_in)
        self.weight = nnx.Param(init(rngs.params(), (size, fan_in), param_dtype))
        self.bias = nnx.Param(init(rngs.params(), (size,), param_dtype))

    def __call__(self, x: Any) -> jax.Array:
        x, weight, bias = cast(self.dtype, (x, self.weight[...], self.bias[...]))
        return linear(weight, bias, x, self.precision)


def _inits(*given: Any) -> dict[str, Any]:
    return dict(zip(OPTION_OF.values(), given, strict=True))


def _metadata(*given: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Metadata by the name of a parameter, without its layer."""
    kernel, recurrent, bias = (dict(metadata or {}) for metadata in given)
    by_name = {"weight_ih": _transposed(kernel), "weight_hh": _transposed(recurrent)}
    return by_name | {"bias_ih": bias, "bias_hh": bias}


def _draw(
    module: nnx.Module,
    inits: Mapping[str, Callable[..., Any]],
    metadata: Mapping[str, Mapping[str, Any]],
    param_dtype: Any,
    rngs: nnx.Rngs,
) -> None:
    """Make every parameter, each from a key of its own."""
    for name, init in inits.items():
        of_this = metadata.get(name.partition("_l")[0], {})
        setattr(module, name, nnx.Param(init(rngs.params(), param_dtype), **of_this))


def _params(module: nnx.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    """The arrays of a module, by name. A subclass may have Variables of its own, under other names."""
    held = {name: value for name, value in vars(module).items() if isinstance(value, _ARRAYS)}
    given = state_dict_entries(held)
    if type(module) in _OURS:
        given |= {name: value for name, value in held.items() if isinstance(value, nnx.Param)}
    require_same_shapes(given, shapes, f"nnx.{type(module).__name__}")
    return {name: given[name][...] for name in shapes}


def _open_box(drawn: Any) -> tuple[Any, Rebox]:
    """Take nnx's metadata off an array, see :func:`jax_lstm.module_init.as_drawn`."""
    if isinstance(drawn, nnx.VariableMetadata):
        metadata = drawn.metadata
        return drawn.raw_value, lambda array, transposed: dataclasses.replace(
            drawn, raw_value=array, metadata=_transposed(metadata) if transposed else metadata
        )
    return as_drawn(drawn)


def _transposed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A kernel's metadata for its transpose: whatever names its axes, by any of nnx's names for that, is reversed."""
    names = {key: metadata[key] for key in ("out_sharding", "sharding", "sharding_names") if metadata.get(key)}
    return {**metadata, **{key: reversed_names(value) for key, value in names.items()}}


_ARRAYS = (nnx.Variable, jax.Array, np.ndarray)
_OURS = (LSTM, LSTMCell, OptimizedLSTMCell)
