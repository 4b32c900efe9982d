"""A whole LSTM as a linen module."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.initial_state import zeros_of
from jax_lstm._src.layers import SizesByPosition, cast, feature_size, state_dtype
from jax_lstm._src.lstm import lstm
from jax_lstm._src.module_init import module_initializers
from jax_lstm._src.network import Network
from jax_lstm._src.options import Backend, Residuals
from jax_lstm._src.state import LSTMState
from jax_lstm._src.streaming import lstm_step, lstm_stream
from jax_lstm.linen.parameters import bound_weights, declare, given_inits, open_box


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
        dtype = dtype or state_dtype(self.carry_dtype, self.dtype, bound_weights(self), self.param_dtype)
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
        inits = module_initializers(network, self.style, self.forget_bias, given_inits(self), open_box)
        return cast(self.dtype, (x, declare(self, inits, network.shapes())))

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
