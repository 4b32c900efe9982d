"""cuDNN's weight vector, as jax.experimental.rnn reads it: all matrices, layer by layer, and then all biases.

cuDNN has torch's gate order and both biases. Therefore packing is a concatenation.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from jax.typing import DTypeLike

from jax_lstm._src.checks import require_floating
from jax_lstm._src.init import check_network
from jax_lstm._src.network import Network, read_network
from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert import gates
from jax_lstm.convert.arrays import AnyArray, Array, Params, namespace, read_array

ORDER = "ifgo"


def to_cudnn(params: Mapping[str, Array]) -> Array:
    """Pack an LSTM's parameter tree into the flat vector that jax.experimental.rnn.lstm takes as ``weights``.

    The conversion is lossless.

    Args:
      params: a torch.nn.LSTM state dict of arrays, with any number of layers and directions. If it has no biases, the
        vector has zeros in their place, because cuDNN's call always reads two.

    Returns:
      A vector `[N]` in the result dtype of the weights, NumPy's or jax's like the arrays of `params`. First come
      `weight_ih` and `weight_hh` of layer 0 forward, of layer 0 reverse, of layer 1 forward, and so on. Then come
      `bias_ih` and `bias_hh` in the same order.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, or it has a projection, for which JAX's call has no
        place.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
      >>> weights = jax_lstm.convert.to_cudnn(params)
      >>> weights.shape
      (200,)

      On a GPU, `jax.experimental.rnn.lstm(x, h0, c0, weights, lengths, 3, 5, 1, 0.0, False)` takes the vector.
    """
    network = read_network(params, "lstm")
    if network.proj_size:
        raise ValueError(
            f"params must have no projection: JAX's cuDNN call has no place for weight_hr_l0 "
            f"{tuple(params['weight_hr_l0'].shape)}. jax_lstm.lstm(..., backend='scan') runs it."
        )
    xp = namespace(*params.values())
    no_bias = xp.zeros(network.num_gates * network.hidden_size, params["weight_ih_l0"].dtype)
    rows = [f"_l{layer}{suffix}" for layer, suffix in network.rows]
    matrices = [params[name + row] for row in rows for name in ("weight_ih", "weight_hh")]
    biases = [params.get(name + row, no_bias) for row in rows for name in ("bias_ih", "bias_hh")]
    return xp.concatenate([xp.ravel(gates.reorder(a, gates.TORCH, ORDER)) for a in matrices + biases])


def from_cudnn(
    weights: AnyArray,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Params:
    """Unpack the flat vector of jax.experimental.rnn.lstm; the inverse of `jax_lstm.convert.to_cudnn`.

    The conversion is lossless unless `dtype` is narrower.

    Args:
      weights: a vector `[N]`, as `jax.experimental.rnn.lstm` takes it and `jax.experimental.rnn.init_lstm_weight`
        makes it.
      input_size: D, as given to `jax.experimental.rnn.lstm`. The vector itself has no shapes.
      hidden_size: H.
      num_layers: the number of layers.
      bidirectional: whether each layer has two directions.
      dtype: the dtype to cast to. None keeps the vector's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays, with both biases.

    Raises:
      TypeError: the numbers of `weights` are not floating-point.
      ValueError: a size is no positive int, or `weights` is no vector of the length that the sizes require.

    Examples:
      >>> import numpy as np
      >>> from jax_lstm import convert
      >>> params = convert.from_cudnn(np.zeros(200, np.float32), input_size=3, hidden_size=5)
      >>> params["weight_hh_l0"].shape
      (20, 5)
    """
    network = Network("lstm", input_size, hidden_size, num_layers, bidirectional=bidirectional)
    check_network(network)
    shapes = network.shapes()
    expected = sum(prod(shape) for shape in shapes.values())
    wanted = f"cuDNN's weights, a vector of {expected} numbers for these sizes"
    if not hasattr(weights, "shape"):
        refuse_tree("weights", wanted, weights)
    vector = read_array("weights", weights, dtype)
    if vector.shape != (expected,):
        raise ValueError(f"weights must be {wanted}; got shape {tuple(vector.shape)}.")
    require_floating("weights", vector, "[N]")
    parts: Params = {}
    start = 0
    for name in sorted(shapes, key=lambda name: name.startswith("bias")):  # matrices first; the sort keeps their order
        size = prod(shapes[name])
        parts[name] = vector[start : start + size].reshape(shapes[name])
        start += size
    return {name: gates.reorder(parts[name], ORDER, gates.TORCH) for name in shapes}
