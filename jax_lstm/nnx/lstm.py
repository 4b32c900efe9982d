"""A multi-layer LSTM as an nnx module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.initial_state import zeros_of
from jax_lstm._src.lstm import lstm
from jax_lstm._src.module_constructor import sizes_by_position
from jax_lstm._src.module_init import Initializer, module_initializers
from jax_lstm._src.module_state import state_dtype
from jax_lstm._src.network import Network
from jax_lstm._src.options import Backend, options_of_module
from jax_lstm._src.state import LSTMState
from jax_lstm._src.streaming import lstm_step, lstm_stream
from jax_lstm.nnx.parameters import draw, inits_of, metadata_of, open_box, params_of
from jax_lstm.nnx.signature import Signed


class LSTM(nnx.Module, metaclass=Signed):
    """A multi-layer LSTM as an nnx module. Options that `jax_lstm.lstm` has too mean the same here.

    The parameters are attributes with the names of a torch state dict, such as ``model.weight_ih_l0``.

    Args:
      input_size: D, the width of x.
      hidden_size: H, the number of hidden units.
      num_layers: L, the number of layers.
      bias: whether the gates have biases.
      bidirectional: whether there is a reverse direction.
      proj_size: P, the width of the projection of h, smaller than H; 0 means no projection.
      time_major: whether T is the first axis of x.
      dropout: as for `jax_lstm.lstm`. It is active if the call is not deterministic.
      style: the rule for the initial weights, as for `jax_lstm.init_lstm`.
      forget_bias: as for `jax_lstm.init_lstm`.
      kernel_init: a Flax initialiser, in place of ``style``, for weight_ih of every layer and direction. It draws one
        gate at a time, as a kernel ``[in, H]``. With ``nnx.with_partitioning(init, names)``, the names are those of the
        kernel's axes, in and out, as in Flax. The parameter is ``[4H, in]``, and its metadata have the names in that
        order.
      recurrent_kernel_init: the same for weight_hh.
      bias_init: the same for bias_ih, as ``[H]``. bias_hh is then zero.
      kernel_metadata: metadata of weight_ih, as for Flax's layers. Names in ``out_sharding`` are treated as those of
        ``kernel_init``.
      recurrent_kernel_metadata: the same for weight_hh.
      bias_metadata: metadata of bias_ih and bias_hh.
      dtype: dtype of the computation. x and the parameters are cast to it. None means their result type.
      param_dtype: dtype of the parameters.
      carry_dtype: dtype of the state, as for `jax_lstm.lstm`.
      checkpoint_every: as for `jax_lstm.lstm`.
      truncate_every: as for `jax_lstm.lstm`.
      backend: as for `jax_lstm.lstm`.
      unroll: as for `jax_lstm.lstm`.
      precision: as for `jax_lstm.lstm`.
      deterministic: whether there is no dropout. ``model.train()``, ``model.eval()`` and ``nnx.view(model,
        deterministic=...)`` change it, and a call may override it.
      return_state: if False, calls return only y, as a layer of nnx.Sequential must, and as nnx.tabulate can show.
      rngs: the keys to draw the parameters with. They are not stored.

    Raises:
      ValueError: an option has a wrong value.
      TypeError: an option has a wrong type, or is given by position.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> model = jax_lstm.nnx.LSTM(8, 16, num_layers=2, rngs=nnx.Rngs(0))
      >>> y, state = model(jnp.ones((4, 10, 8)))  # [*batch, T, D]
      >>> y.shape, state.h.shape, model.weight_ih_l0.shape
      ((4, 10, 16), (2, 4, 16), (64, 8))
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
        kernel_init: Initializer = None,
        recurrent_kernel_init: Initializer = None,
        bias_init: Initializer = None,
        kernel_metadata: Mapping[str, Any] | None = None,
        recurrent_kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_dtype: DTypeLike | None = None,
        checkpoint_every: int | None = None,
        truncate_every: int | None = None,
        backend: Backend = "auto",
        unroll: int = 1,
        precision: Precision = None,
        deterministic: bool = False,
        return_state: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        self.network = Network("lstm", input_size, hidden_size, num_layers, bias, bidirectional, proj_size)
        self.time_major, self.dropout, self.dtype, self.carry_dtype = time_major, dropout, dtype, carry_dtype
        self.checkpoint_every, self.truncate_every = checkpoint_every, truncate_every
        self.backend, self.unroll, self.precision, self.deterministic = backend, unroll, precision, deterministic
        self.param_dtype, self.return_state = param_dtype, return_state
        given = inits_of(kernel_init, recurrent_kernel_init, bias_init)
        metadata = metadata_of(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        inits = module_initializers(self.network, style, forget_bias, given, open_box)
        draw(self, inits, metadata, param_dtype, rngs)

    def __call__(
        self,
        x: ArrayLike,
        state: LSTMState | None = None,
        *,
        lengths: Listed | None = None,
        mask: Listed | None = None,
        reset: Listed | None = None,
        reset_state: LSTMState | None = None,
        dropout_key: ArrayLike | None = None,
        deterministic: bool | None = None,
    ) -> tuple[Array, LSTMState]:
        """Run the layers.

        Args:
          x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
          state: the initial `jax_lstm.LSTMState`, as for `jax_lstm.lstm`; None means zeros.
          lengths: int ``[*batch]``, as for `jax_lstm.lstm`.
          mask: bool, shaped as x without D, as for `jax_lstm.lstm`.
          reset: bool, shaped as x without D, as for `jax_lstm.lstm`.
          reset_state: the `jax_lstm.LSTMState` that a reset goes back to, as for `jax_lstm.lstm`.
          dropout_key: a jax.random key, a new one per call. With ``dropout``, a call that is not deterministic needs
            it.
          deterministic: whether there is no dropout in this call. None means the module's own, which ``model.train()``,
            ``model.eval()`` and ``nnx.view(model, deterministic=...)`` set.

        Returns:
          y and the last `jax_lstm.LSTMState`, as `jax_lstm.lstm` returns them; only y if ``return_state`` is False.

        Raises:
          ValueError: as `jax_lstm.lstm`. Also if a call with dropout has no key.
          TypeError: as `jax_lstm.lstm`.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> model = jax_lstm.nnx.LSTM(8, 16, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
          >>> y, _ = model(jnp.ones((4, 10, 8)), dropout_key=jax.random.key(1))
          >>> y, _ = model(jnp.ones((4, 10, 8)), deterministic=True)  # no dropout
          >>> y.shape
          (4, 10, 16)
        """
        x, params = self._inputs_and_params(x)
        dropout = self._active_dropout(deterministic, dropout_key)
        y, last = lstm(
            params,
            x,
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
            dropout=dropout,
            dropout_key=dropout_key if dropout else None,
            **options_of_module(self),
        )
        return (y, last) if self.return_state else y  # type: ignore[return-value]

    def zero_state(self, batch_shape: int | tuple[int, ...] = (), dtype: DTypeLike | None = None) -> LSTMState:
        """Return the state of zeros that a call without a state starts from.

        Args:
          batch_shape: the shape of x without its time axis and D, as for `jax_lstm.zero_state`.
          dtype: a floating-point dtype. None means the dtype of the carry, which follows from the weights.

        Returns:
          A `jax_lstm.LSTMState` with h ``[R, *batch_shape, P]`` and c ``[R, *batch_shape, H]``.

        Raises:
          ValueError: as `jax_lstm.zero_state`.
          TypeError: as `jax_lstm.zero_state`.

        Examples:
          >>> from flax import nnx
          >>> import jax_lstm
          >>> jax_lstm.nnx.LSTM(8, 16, num_layers=2, rngs=nnx.Rngs(0)).zero_state(4).h.shape
          (2, 4, 16)
        """
        weights = params_of(self, self.network.shapes()).values()
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, weights, self.param_dtype)
        return zeros_of(self.network, batch_shape, dtype)

    def step(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one step, as `jax_lstm.lstm_step` does. It has no dropout.

        Args:
          x: ``[*batch, D]``, the inputs of this step.
          state: the `jax_lstm.LSTMState` that the step before returned; None means zeros.

        Returns:
          y ``[*batch, P]`` and the next `jax_lstm.LSTMState`.

        Raises:
          ValueError: as `jax_lstm.lstm_step`.
          TypeError: as `jax_lstm.lstm_step`.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> model, state = jax_lstm.nnx.LSTM(8, 16, rngs=nnx.Rngs(0)), None
          >>> for x_t in jnp.ones((10, 4, 8)):
          ...     y, state = model.step(x_t, state)
          >>> y.shape
          (4, 16)
        """
        x, params = self._inputs_and_params(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision, backend=self.backend)

    def stream(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run a chunk of any length by the same steps, as `jax_lstm.lstm_stream` does. It has no dropout.

        Args:
          x: ``[*batch, T, D]``, or ``[T, *batch, D]`` with ``time_major``.
          state: the `jax_lstm.LSTMState` that the chunk before returned; None means zeros.

        Returns:
          y ``[*batch, T, P]`` (or time-major) and the last `jax_lstm.LSTMState`.

        Raises:
          ValueError: as `jax_lstm.lstm_stream`.
          TypeError: as `jax_lstm.lstm_stream`.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> model, x = jax_lstm.nnx.LSTM(8, 16, rngs=nnx.Rngs(0)), jnp.ones((4, 10, 8))
          >>> _, state = model.stream(x[:, :3])
          >>> y, state = model.stream(x[:, 3:], state)
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

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the attributes that nnx.view passes.

        Args:
          deterministic: if True, there is no dropout. None changes nothing.

        Examples:
          >>> from flax import nnx
          >>> import jax_lstm
          >>> model = jax_lstm.nnx.LSTM(8, 16, dropout=0.5, rngs=nnx.Rngs(0))
          >>> nnx.view(model, deterministic=True).deterministic, model.deterministic
          (True, False)
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _inputs_and_params(self, x: ArrayLike) -> tuple[Any, dict[str, Array]]:
        inputs, params = cast_floating((x, params_of(self, self.network.shapes())), self.dtype)
        return inputs, params

    def _active_dropout(self, deterministic: bool | None, key: ArrayLike | None) -> float:
        """Return the rate of dropout of a call: zero if it is deterministic."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not self.dropout:
            return 0.0
        if key is None:
            raise ValueError(
                f"dropout={self.dropout} needs dropout_key=jax.random.key(...), or rngs.dropout() of an nnx.Rngs, a "
                "fresh one per call; got None. To evaluate, call model.eval() or pass deterministic=True."
            )
        return self.dropout
