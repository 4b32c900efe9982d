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

    Args:
      params: a torch.nn.LSTM state dict as arrays, any number of layers and directions. One without biases gets
        zeros, since cuDNN's call always reads two.

    Returns:
      ``[N]`` in the result type of the weights: weight_ih, weight_hh of layer 0 forward, of layer 0 reverse, of
      layer 1 forward, ..., and then their bias_ih, bias_hh. Of the kind that came. Lossless.

    Raises:
      ValueError, TypeError: ``params`` are no LSTM's, or have a projection, for which JAX's call has no place.

    Example:
      >>> y, h, c = rnn.lstm(x, h0, c0, convert.to_cudnn(params), lengths, input_size, hidden_size, layers, 0.0, False)
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
    """Unpack the flat vector of jax.experimental.rnn.lstm; the inverse of :func:`to_cudnn`.

    Args:
      weights: ``[N]``, as jax.experimental.rnn.lstm takes and init_lstm_weight makes it.
      input_size: D, as given to jax.experimental.rnn.lstm. The vector itself has no shapes.
      hidden_size: H.
      num_layers: number of layers.
      bidirectional: whether each layer has two directions.
      dtype: dtype to cast to; None keeps its own.

    Returns:
      A torch.nn.LSTM state dict with both biases as jax arrays. Lossless.

    Raises:
      ValueError, TypeError: a size is no positive int, or ``weights`` is no vector of numbers or does not have the
        length that the sizes require.

    Example:
      >>> params = convert.from_cudnn(rnn.init_lstm_weight(key, 3, 5, 2, False), 3, 5, num_layers=2)
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
