"""torch.nn.Embedding and torch.nn.Linear as linen modules, with torch's names, shapes and initial weights."""

from __future__ import annotations

from dataclasses import KW_ONLY

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, ArrayLike, DTypeLike, Precision
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.module_constructor import SizesByPosition
from jax_lstm._src.module_layers import dense, embed, uniform_init


class Embedding(SizesByPosition, nn.Module):
    """An embedding as torch.nn.Embedding: ``weight [vocab_size, size]``, drawn from N(0, 1).

    Attributes:
      vocab_size: the number of tokens.
      size: the width of a row.
      dtype: dtype of the result. None means the dtype of the weight.
      param_dtype: dtype of the weight, float32 by default.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> layer, tokens = jax_lstm.linen.Embedding(100, 8), jnp.array([[3, 1, 4]])
      >>> variables = layer.init(jax.random.key(0), tokens)
      >>> layer.apply(variables, tokens).shape
      (1, 3, 8)
    """

    vocab_size: int
    size: int
    _: KW_ONLY
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
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
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> layer = jax_lstm.linen.Embedding(100, 8)
          >>> rows, variables = layer.init_with_output(jax.random.key(0), jnp.array([3, 1, 4]))
          >>> bool((rows[0] == variables["params"]["weight"][3]).all())
          True
        """
        weight = self.param("weight", jax.nn.initializers.normal(1.0), (self.vocab_size, self.size), self.param_dtype)
        return embed(cast_floating(weight, self.dtype), tokens)


class Linear(SizesByPosition, nn.Module):
    """A dense layer as torch.nn.Linear: ``weight [out, in]`` and ``bias [out]``, both U(±1/√in).

    Attributes:
      size: the width of the result. The width of the input is read from x.
      dtype: dtype of the computation. None means the result type of x and the parameters.
      param_dtype: dtype of weight and bias, float32 by default.
      precision: of the product, as jax.lax.dot takes it.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> layer, x = jax_lstm.linen.Linear(5), jnp.ones((4, 8))
      >>> variables = layer.init(jax.random.key(0), x)
      >>> layer.apply(variables, x).shape, variables["params"]["weight"].shape
      ((4, 5), (5, 8))
    """

    _in_torch = "torch.nn.Linear({0}, {1}) is linen.Linear({1}): the input's size is read from x."

    size: int
    _: KW_ONLY
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    precision: Precision = None

    @nn.compact
    def __call__(self, x: ArrayLike) -> Array:
        """Return x times the transposed weight, plus the bias.

        Args:
          x: ``[..., in]``.

        Returns:
          ``[..., size]``.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> layer, x = jax_lstm.linen.Linear(5), jnp.zeros((4, 8))
          >>> y, variables = layer.init_with_output(jax.random.key(0), x)
          >>> bool((y == variables["params"]["bias"]).all())
          True
        """
        init = uniform_init(x.shape[-1])
        weight = self.param("weight", init, (self.size, x.shape[-1]), self.param_dtype)
        bias = self.param("bias", init, (self.size,), self.param_dtype)
        inputs, weight, bias = cast_floating((x, weight, bias), self.dtype)
        return dense(weight, bias, inputs, self.precision)
