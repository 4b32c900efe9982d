"""torch.nn.Embedding and torch.nn.Linear as nnx modules, with torch's names, shapes and initial weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Precision
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.module_constructor import sizes_by_position
from jax_lstm._src.module_layers import dense, embed, uniform_init
from jax_lstm.nnx.signature import Signed


class Embedding(nnx.Module, metaclass=Signed):
    """An embedding as torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1).

    Args:
      vocab_size: the number of tokens.
      size: the width of a row.
      dtype: dtype of the result. None means the dtype of the weight.
      param_dtype: dtype of the weight.
      rngs: draws the weight from its stream "params".

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> layer = jax_lstm.nnx.Embedding(100, 8, rngs=nnx.Rngs(0))
      >>> layer(jnp.array([[3, 1, 4]])).shape
      (1, 3, 8)
    """

    @sizes_by_position("")
    def __init__(
        self,
        vocab_size: int,
        size: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (vocab_size, size), param_dtype))

    def __call__(self, tokens: ArrayLike) -> Array:
        """Return the rows of the weight.

        Args:
          tokens: int ``[*batch, T]``.

        Returns:
          ``[*batch, T, size]``.

        Raises:
          TypeError: tokens are not integers.
          ValueError: a token lies outside of the vocabulary. Under jit, values are unknown, and it is not checked.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> layer = jax_lstm.nnx.Embedding(100, 8, rngs=nnx.Rngs(0))
          >>> bool((layer(jnp.array([3, 1, 4]))[0] == layer.weight[3]).all())
          True
        """
        return embed(cast_floating(self.weight[...], self.dtype), tokens)


class Linear(nnx.Module, metaclass=Signed):
    """A dense layer as torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in).

    Args:
      fan_in: the width of the input.
      size: the width of the result.
      dtype: dtype of the computation. None means the result type of x and the parameters.
      param_dtype: dtype of weight and bias.
      precision: of the product, as jax.lax.dot takes it.
      rngs: draws weight and bias from its stream "params".

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import jax_lstm
      >>> layer = jax_lstm.nnx.Linear(8, 5, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((4, 8))).shape, layer.weight.shape
      ((4, 5), (5, 8))
    """

    @sizes_by_position("")
    def __init__(
        self,
        fan_in: int,
        size: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: Precision = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype, self.precision = dtype, precision
        init = uniform_init(fan_in)
        self.weight = nnx.Param(init(rngs.params(), (size, fan_in), param_dtype))
        self.bias = nnx.Param(init(rngs.params(), (size,), param_dtype))

    def __call__(self, x: ArrayLike) -> Array:
        """Return x times the transposed weight, plus the bias.

        Args:
          x: ``[..., fan_in]``.

        Returns:
          ``[..., size]``.

        Examples:
          >>> import jax.numpy as jnp
          >>> from flax import nnx
          >>> import jax_lstm
          >>> layer = jax_lstm.nnx.Linear(8, 5, rngs=nnx.Rngs(0))
          >>> bool((layer(jnp.zeros((4, 8))) == layer.bias[...]).all())
          True
        """
        inputs, weight, bias = cast_floating((x, self.weight[...], self.bias[...]), self.dtype)
        return dense(weight, bias, inputs, self.precision)
