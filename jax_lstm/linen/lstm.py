"""A whole LSTM as a linen module."""

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
    """A whole LSTM as a linen module. The options that :func:`jax_lstm.lstm` has too mean the same here.

    Attributes:
      hidden_size: H. torch.nn.LSTM(D, H) is linen.LSTM(H), since D is read from x.
      style, forget_bias: the rules for the initial weights, see :func:`jax_lstm.init_lstm`.
      kernel_init, recurrent_kernel_init, bias_init: Flax's initialisers, in place of ``style``, for weight_ih,
        weight_hh and bias_ih of every layer and direction. They draw one gate at a time, kernels as ``[in, H]``. With
        ``nn.with_partitioning(init, names)``, the names are those of the kernel's axes, in and out, as in Flax. The
        parameter is ``[4H, in]``, and its metadata have the names in that order. With ``bias_init``, bias_hh is zero.
      deterministic: whether there is no dropout. It may be given here or to the call, which has precedence. With
        ``dropout`` it must be given.
      return_state: if False, calls return only y, as a layer of nn.Sequential must.

    Example:
      >>> model = linen.LSTM(16, num_layers=2)
      >>> variables = model.init(jax.random.key(0), x)
      >>> y, state = model.apply(variables, x)
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
          x, state, lengths, reset, mask, reset_state: as for :func:`jax_lstm.lstm`.
          deterministic: False turns dropout on, with a key from the RNG collection "dropout".

        Returns:
          y and the last state, as :func:`jax_lstm.lstm`; only y if ``return_state`` is False.

        Raises:
          ValueError, TypeError: as :func:`jax_lstm.lstm`; ValueError if there is dropout and ``deterministic`` is given
            neither here nor to the module.
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
        """Return the state of zeros that a call without a state starts from, as :func:`jax_lstm.zero_state`.

        ``dtype=None`` means the dtype of the carry, which follows from the weights that the module is bound to, or from
        ``param_dtype`` if it is not bound.
        """
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, bound_weights(self), self.param_dtype)
        return zeros_of(self._network(input_size=1), batch_shape, dtype)  # the state does not depend on D

    def step(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run one step for x ``[*batch, D]``, as :func:`jax_lstm.lstm_step`; call it by ``apply(..., method="step")``.

        It has no dropout. ``init(..., method="step")`` declares the parameters.
        """
        x, params = self._inputs_and_params(x)
        return lstm_step(params, x, state, carry_dtype=self.carry_dtype, precision=self.precision, backend=self.backend)

    def stream(self, x: ArrayLike, state: LSTMState | None = None) -> tuple[Array, LSTMState]:
        """Run a chunk of any length by the same steps, as :func:`jax_lstm.lstm_stream`; by ``method="stream"``."""
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
        """Return x and the parameters in ``dtype``: the only compact method, so that all others can declare them."""
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
