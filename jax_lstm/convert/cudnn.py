"""cuDNN's weight vector, as jax.experimental.rnn reads it: all matrices, row by row of the state, then all biases.

cuDNN keeps torch's gate order and both biases, so packing is a concatenation.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from jax_lstm._src.checks import require_floating
from jax_lstm._src.init import check_network
from jax_lstm._src.network import Network, read_network
from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert.arrays import namespace, read_array


def to_cudnn(params: Mapping[str, Any]) -> Any:
    """Packs an LSTM's parameter tree into the flat vector that jax.experimental.rnn.lstm takes as ``weights``.

    Args:
      params: a torch.nn.LSTM state dict as arrays, any number of layers and directions; one without biases gets
        zeros, since cuDNN's call always reads two.

    Returns:
      ``[N]`` in the result type of the weights: weight_ih, weight_hh of layer 0 forward, of layer 0 reverse, of
      layer 1 forward, ..., and then their bias_ih, bias_hh. Of the kind that came. Lossless.

    Raises:
      ValueError, TypeError: ``params`` are no LSTM's, or have a projection, for which JAX's call has no place.
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
    return xp.concatenate([xp.ravel(a) for a in matrices + biases])


def from_cudnn(
    weights: Any,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    *,
    dtype: Any = None,
) -> dict[str, Any]:
    """Unpacks the flat vector of jax.experimental.rnn.lstm; the other way of :func:`to_cudnn`, and lossless.

    Args:
      weights: ``[N]``, as jax.experimental.rnn.lstm takes and init_lstm_weight makes it.
      input_size, hidden_size, num_layers, bidirectional: as given to jax.experimental.rnn.lstm: a vector has
        no shapes.
      dtype: dtype to cast to; None keeps its own.

    Returns:
      A torch.nn.LSTM state dict with both biases as jax arrays.

    Raises:
      ValueError, TypeError: a size is no positive int, or ``weights`` is no vector of numbers, or not as long as they
        call for.
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
    params: dict[str, Any] = dict.fromkeys(shapes)
    start = 0
    for name in sorted(shapes, key=lambda name: name.startswith("bias")):  # matrices first; the sort keeps their order
        size = prod(shapes[name])
        params[name] = vector[start : start + size].reshape(shapes[name])
        start += size
    return params
