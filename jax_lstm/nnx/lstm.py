"""A whole LSTM as an nnx module."""

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
    """A whole LSTM as an nnx module. Options of :func:`jax_lstm.lstm` and ``init_lstm`` mean the same here.

    Args:
      kernel_init, recurrent_kernel_init, bias_init: Flax's initialisers, in place of ``style``, for weight_ih,
        weight_hh and bias_ih of every layer and direction. They draw one gate at a time, kernels as ``[in, H]``. With
        ``nnx.with_partitioning(init, names)``, the names are those of the kernel's axes, in and out, as in Flax. The
        parameter is ``[4H, in]``, and its metadata have the names in that order. With ``bias_init``, bias_hh is zero.
      kernel_metadata, recurrent_kernel_metadata, bias_metadata: metadata of the same parameters, and of bias_hh, as for
        Flax's layers. Names in ``out_sharding`` are treated in the same way.
      deterministic: whether there is no dropout, see :meth:`__call__`.
      return_state: if False, calls return only y, as a layer of nnx.Sequential must, and as nnx.tabulate can show.
      rngs: the keys to draw the parameters with. They are not stored.

    Example:
      >>> model = nnx.LSTM(8, 16, num_layers=2, rngs=flax.nnx.Rngs(0))
      >>> y, state = model(x)
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
          x, state, lengths, mask, reset, reset_state: as for :func:`jax_lstm.lstm`.
          dropout_key: a jax.random key. With ``dropout``, a call that is not deterministic needs it.
          deterministic: whether there is no dropout in this call. None means the module's own, which
            ``model.train()``, ``model.eval()`` and ``nnx.view(model, deterministic=...)`` set.

        Returns:
          y and the last state, as :func:`jax_lstm.lstm`; only y if ``return_state`` is False.

        Raises:
          ValueError, TypeError: as :func:`jax_lstm.lstm`; ValueError if a call with dropout has no key.
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
        """Return the state of zeros that a call without a state starts from, as :func:`jax_lstm.zero_state`.

        ``dtype=None`` means the dtype of the carry, which follows from the weights.
        """
        weights = params_of(self, self.network.shapes()).values()
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, weights, self.param_dtype)
        return zeros_of(self.network, batch_shape, dtype)

    def step(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one step for x ``[*batch, D]``, as :func:`jax_lstm.lstm_step`. It has no dropout."""
        x, params = self._inputs_and_params(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision, backend=self.backend)

    def stream(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run a chunk of any length by the same steps, as :func:`jax_lstm.lstm_stream`."""
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
          deterministic: if True, there is no dropout.
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
