"""A multi-layer LSTM as a linen module."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.initial_state import zeros_of
from jax_lstm._src.lstm import lstm
from jax_lstm._src.module_constructor import SizesByPosition
from jax_lstm._src.module_init import Initializer, module_initializers
from jax_lstm._src.module_params import feature_size
from jax_lstm._src.module_state import state_dtype
from jax_lstm._src.network import Network
from jax_lstm._src.options import Backend, options_of_module
from jax_lstm._src.state import LSTMState
from jax_lstm._src.streaming import lstm_step, lstm_stream
from jax_lstm.linen.parameters import bound_weights, declare, given_inits, open_box


class LSTM(SizesByPosition, nn.Module):
    """A multi-layer LSTM as a linen module. Options that `jax_lstm.lstm` has too mean the same here.

    The constructor takes ``hidden_size`` by position, and every other option by name. An option without a stated
    default is None, False or 0 by default.

    Attributes:
      hidden_size: H, the number of hidden units. torch.nn.LSTM(D, H) is linen.LSTM(H), since D is read from x.
      num_layers: L, the number of layers, 1 by default.
      bias: whether the gates have biases. The default is True.
      bidirectional: whether there is a reverse direction.
      proj_size: P, the width of the projection of h, smaller than H; 0 means no projection.
      time_major: whether T is the first axis of x.
      dropout: as for `jax_lstm.lstm`. It is active if ``deterministic`` is False.
      style: the rule for the initial weights, as for `jax_lstm.init_lstm`. The default is "torch".
      forget_bias: as for `jax_lstm.init_lstm`.
      kernel_init: a Flax initialiser, in place of ``style``, for weight_ih of every layer and direction. It draws one
        gate at a time, as a kernel ``[in, H]``. With ``nn.with_partitioning(init, names)``, the names are those of the
        kernel's axes, in and out, as in Flax. The parameter is ``[4H, in]``, and its metadata have the names in that
        order.
      recurrent_kernel_init: the same for weight_hh.
      bias_init: the same for bias_ih, as ``[H]``. bias_hh is then zero.
      dtype: dtype of the computation. x and the parameters are cast to it. None means their result type.
      param_dtype: dtype of the parameters, float32 by default.
      carry_dtype: dtype of the state, as for `jax_lstm.lstm`.
      checkpoint_every: as for `jax_lstm.lstm`.
      truncate_every: as for `jax_lstm.lstm`.
      backend: as for `jax_lstm.lstm`, "auto" by default.
      unroll: as for `jax_lstm.lstm`, 1 by default.
      precision: as for `jax_lstm.lstm`.
      deterministic: whether there is no dropout. It may be given here or to the call, which has precedence. With
        ``dropout`` it must be given.
      return_state: if False, calls return only y, as a layer of nn.Sequential must. The default is True.

    Raises:
      TypeError: an option is given by position.
      ValueError: an option has a wrong value. The first call raises it, and not the constructor.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> x = jnp.ones((4, 10, 8))  # [*batch, T, D]
      >>> model = jax_lstm.linen.LSTM(16, num_layers=2)
      >>> variables = model.init(jax.random.key(0), x)
      >>> y, state = model.apply(variables, x)
      >>> y.shape, state.h.shape
      ((4, 10, 16), (2, 4, 16))
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
    kernel_init: Initializer = None
    recurrent_kernel_init: Initializer = None
    bias_init: Initializer = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_dtype: DTypeLike | None = None
    checkpoint_every: int | None = None
    truncate_every: int | None = None
    backend: Backend = "auto"
    unroll: int = 1
    precision: Precision = None
    deterministic: bool | None = None
    return_state: bool = True

    def __call__(
        self,
        x: ArrayLike,
        state: LSTMState | None = None,
        lengths: Listed | None = None,
        reset: Listed | None = None,
        deterministic: bool | None = None,
        mask: Listed | None = None,
        reset_state: LSTMState | None = None,
    ) -> tuple[Array, LSTMState]:
        """Run the layers. The arguments may be given by position, as Flax's lifted transformations do.

        Args:
          x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
          state: the initial `jax_lstm.LSTMState`, as for `jax_lstm.lstm`; None means zeros.
          lengths: int ``[*batch]``, as for `jax_lstm.lstm`.
          reset: bool, shaped as x without D, as for `jax_lstm.lstm`.
          deterministic: False turns dropout on, with a key from the RNG collection "dropout". None means the module's
            own.
          mask: bool, shaped as x without D, as for `jax_lstm.lstm`.
          reset_state: the `jax_lstm.LSTMState` that a reset goes back to, as for `jax_lstm.lstm`.

        Returns:
          y and the last `jax_lstm.LSTMState`, as `jax_lstm.lstm` returns them; only y if ``return_state`` is False.

        Raises:
          ValueError: as `jax_lstm.lstm`. Also if there is dropout, and ``deterministic`` is given neither here nor to
            the module.
          TypeError: as `jax_lstm.lstm`.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> x = jnp.ones((4, 10, 8))
          >>> model = jax_lstm.linen.LSTM(16, num_layers=2, dropout=0.5, deterministic=True)
          >>> variables = model.init(jax.random.key(0), x)
          >>> rngs = {"dropout": jax.random.key(1)}
          >>> y, _ = model.apply(variables, x, deterministic=False, rngs=rngs)
          >>> y.shape
          (4, 10, 16)
        """
        x, params = self._inputs_and_params(x)
        dropout = self._active_dropout(deterministic)
        y, last = lstm(
            params,
            x,
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
            dropout=dropout,
            dropout_key=self.make_rng("dropout") if dropout else None,
            **options_of_module(self),
        )
        return (y, last) if self.return_state else y  # type: ignore[return-value]

    @nn.nowrap
    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> LSTMState:
        """Return the state of zeros that a call without a state starts from.

        Args:
          batch_shape: the shape of x without its time axis and D, as for `jax_lstm.zero_state`.
          dtype: a floating-point dtype. None means the dtype of the carry, which follows from the weights that the
            module is bound to, or from ``param_dtype`` if it is not bound.

        Returns:
          A `jax_lstm.LSTMState` with h ``[R, *batch_shape, P]`` and c ``[R, *batch_shape, H]``.

        Raises:
          ValueError: as `jax_lstm.zero_state`.
          TypeError: as `jax_lstm.zero_state`.

        Examples:
          >>> import jax_lstm
          >>> jax_lstm.linen.LSTM(16, num_layers=2).zero_state(4).h.shape
          (2, 4, 16)
        """
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, bound_weights(self), self.param_dtype)
        return zeros_of(self._network(input_size=1), batch_shape, dtype)  # the state does not depend on D

    def step(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one step, as `jax_lstm.lstm_step` does. It has no dropout.

        Call it by ``apply(..., method="step")``. ``init(..., method="step")`` declares the parameters.

        Args:
          x: ``[*batch, D]``, the inputs of this step.
          state: the `jax_lstm.LSTMState` that the step before returned; None means zeros.

        Returns:
          y ``[*batch, P]`` and the next `jax_lstm.LSTMState`.

        Raises:
          ValueError: as `jax_lstm.lstm_step`.
          TypeError: as `jax_lstm.lstm_step`.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> model = jax_lstm.linen.LSTM(16)
          >>> variables = model.init(jax.random.key(0), jnp.ones((4, 8)), method="step")
          >>> y, state = model.apply(variables, jnp.ones((4, 8)), method="step")
          >>> y.shape
          (4, 16)
        """
        x, params = self._inputs_and_params(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision, backend=self.backend)

    def stream(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run a chunk of any length by the same steps, as `jax_lstm.lstm_stream` does. It has no dropout.

        Call it by ``apply(..., method="stream")``.

        Args:
          x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
          state: the `jax_lstm.LSTMState` that the chunk before returned; None means zeros.

        Returns:
          y ``[*batch, T, P]`` (or time-major) and the last `jax_lstm.LSTMState`.

        Raises:
          ValueError: as `jax_lstm.lstm_stream`.
          TypeError: as `jax_lstm.lstm_stream`.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> model, x = jax_lstm.linen.LSTM(16), jnp.ones((4, 10, 8))
          >>> variables = model.init(jax.random.key(0), x)
          >>> _, state = model.apply(variables, x[:, :3], method="stream")
          >>> y, state = model.apply(variables, x[:, 3:], state, method="stream")
          >>> y.shape
          (4, 7, 16)
        """
        x, params = self._inputs_and_params(x)
        return lstm_stream(
            params,
            x,
            state,
            time_major=self.time_major,
            carry_dtype=self.carry_dtype,
            precision=self.precision,
            backend=self.backend,
        )

    @nn.compact
    def _inputs_and_params(self, x: ArrayLike) -> tuple[Any, dict[str, Array]]:
        """Return x and the parameters in ``dtype``. It is the only compact method: any other can declare them by it."""
        network = self._network(feature_size(x))
        inits = module_initializers(network, self.style, self.forget_bias, given_inits(self), open_box)
        inputs, params = cast_floating((x, declare(self, inits, network.shapes())), self.dtype)
        return inputs, params

    @nn.nowrap
    def _network(self, input_size: int) -> Network:
        sizes = (input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional, self.proj_size)
        return Network("lstm", *sizes)

    @nn.nowrap
    def _active_dropout(self, deterministic: bool | None) -> float:
        """Return the rate of dropout of a call: zero if it is deterministic."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if self.dropout and deterministic is None:
            raise ValueError(
                f"dropout={self.dropout} needs deterministic, in the call or as an option of the module; got None. "
                "Pass deterministic=True to evaluate, deterministic=False and rngs={'dropout': key} to train."
            )
        return 0.0 if deterministic else self.dropout
