"""A whole LSTM as an nnx module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_lstm._src.init import ForgetBias, Style
from jax_lstm._src.initial_state import zeros_of
from jax_lstm._src.layers import cast, sizes_by_position, state_dtype
from jax_lstm._src.lstm import lstm
from jax_lstm._src.module_init import module_initializers
from jax_lstm._src.network import Network
from jax_lstm._src.options import Backend, Residuals
from jax_lstm._src.state import LSTMState
from jax_lstm._src.streaming import lstm_step, lstm_stream
from jax_lstm.nnx.parameters import draw, inits_of, metadata_of, open_box, params_of
from jax_lstm.nnx.signature import Signed


class LSTM(nnx.Module, metaclass=Signed):
    """torch.nn.LSTM as an nnx module; options mean what they mean in :func:`jax_lstm.lstm` and ``init_lstm``.

    Other arguments of the constructor:
      kernel_init, recurrent_kernel_init, bias_init: Flax's initialisers in the place of ``style``, for weight_ih,
        weight_hh and bias_ih of every layer and direction. They draw one gate at a time, kernels as ``[in, H]``. With
        ``nnx.with_partitioning(init, names)`` the names are those of the kernel's axes, in and out, as in Flax; the
        parameter is ``[4H, in]``, and its metadata has them in that order. Beside ``bias_init``, bias_hh is zero.
      kernel_metadata, recurrent_kernel_metadata, bias_metadata: metadata of the same parameters, and of bias_hh, as for
        Flax's layers. Names in ``out_sharding`` are treated in the same way.
      deterministic: whether there is no dropout, see :meth:`__call__`.
      return_state: if False, calls give y only, as a layer of nnx.Sequential must, and as nnx.tabulate can show.
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
        given = inits_of(kernel_init, recurrent_kernel_init, bias_init)
        metadata = metadata_of(kernel_metadata, recurrent_kernel_metadata, bias_metadata)
        inits = module_initializers(self.network, style, forget_bias, given, open_box)
        draw(self, inits, metadata, param_dtype, rngs)

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
        weights = params_of(self, self.network.shapes()).values()
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
        return cast(self.dtype, (x, params_of(self, self.network.shapes())))

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
