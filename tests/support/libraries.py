"""The libraries that jax_lstm.convert reads and writes, run by their adapters in crosscheck.libraries.

tests.support.conversion compares them with ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import rnn

from crosscheck.libraries import Adapter, load_library
from crosscheck.libraries.flax_linen import carries_of
from crosscheck.lstm.cases import RecurrentCase
from jax_lstm import convert
from jax_lstm._src.network import Network
from tests.support.requirements import need

B, T, D, H = 3, 6, 4, 5
NETWORKS = {
    "one": Network("lstm", D, H),
    "three layers": Network("lstm", D, H, 3),
    "both directions": Network("lstm", D, H, bidirectional=True),
    "two layers, both directions": Network("lstm", D, H, 2, bidirectional=True),
    "no bias": Network("lstm", D, H, 2, bias=False),
    "square": Network("lstm", H, H, 2),  # every gate's matrices are H x H: no shape tells them apart
    "square, both directions": Network("lstm", H, H, bidirectional=True),
}


def case_of(network: Network) -> RecurrentCase:
    """The same network, as adapters take it."""
    names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional")
    return RecurrentCase("", "", B, T, **{name: getattr(network, name) for name in names})


@dataclass(frozen=True)
class Built:
    """like: the tree of weights that the library itself makes, with shapes. run: (weights, x, h0, c0) -> y, h_n, c_n.

    ``run`` takes such a tree, and what `to_x` wrote.
    """

    like: Any
    run: Callable[..., Any]


@dataclass(frozen=True)
class Library:
    """What a library has: networks of two directions, ones without bias, two biases. options: what `from_x` is told."""

    name: str
    read: Callable[..., Any]
    write: Callable[..., Any]
    build: Callable[[Network], Built]
    module: str = ""  # besides JAX and Flax
    bidirectional: bool = True
    no_bias: bool = False
    two_biases: bool = False
    options: Callable[[Network], dict[str, Any]] = lambda network: {}

    def need(self):
        if self.module:
            need(self.module)

    def has(self, network: Network) -> bool:
        return (self.bidirectional or not network.bidirectional) and (self.no_bias or network.bias)

    def read_for(self, network: Network) -> Callable[[Any], Any]:
        """`from_x`, told what the library has no names or shapes for."""
        return partial(self.read, **self.options(network))


def inputs(network: Network):
    """x, h0 and c0: float64 and not zero."""
    rng = np.random.default_rng(1)
    rows = len(network.rows)
    return (jnp.asarray(rng.normal(size=shape)) for shape in ((B, T, network.input_size), *[(rows, B, H)] * 2))


def build_adapter(
    network: Network,
    file: str,
    like: Callable[..., Any],
    as_written: Callable[[Any], Any] = lambda weights: weights,
    **options: str,
) -> Built:
    """like: of (library, network, case), what the library itself makes. as_written: this in the layout of `to_x`."""
    case, library = case_of(network), load_library(file)
    adapter: Adapter = library.adapter(case, **options)
    run = jax.jit(lambda weights, *arrays: adapter.run(as_written(weights), *arrays))
    return Built(like(library, network, case, **options), run)


def linen_like(library: ModuleType, network: Network, case: RecurrentCase, cell: str) -> Any:
    x, h0, c0 = inputs(network)
    module = library.stack(case, cell, jnp.float64)
    like = jax.eval_shape(module.init, jax.random.key(0), x, carries_of(case, h0, c0))["params"]
    return like["layers_0"] if case.num_layers == 1 else like  # RNN by itself has no name for its layer


def nnx_like(library: ModuleType, network: Network, case: RecurrentCase, cell: str) -> nnx.State:
    _, like, _ = nnx.split(library.stack(case, cell, jnp.float64), nnx.Param, ...)
    return like["layers"][0] if case.num_layers == 1 else like


def nnx_written(weights: Any) -> Any:
    return nnx.to_pure_dict(weights) if isinstance(weights, nnx.State) else weights


def haiku_like(library: ModuleType, network: Network, case: RecurrentCase) -> Any:
    return jax.eval_shape(library.transformed(case).init, jax.random.key(0), *inputs(network))


def equinox_like(library: ModuleType, network: Network, case: RecurrentCase) -> Any:
    cells = library.cells(case, jnp.float64)
    return cells[0] if len(cells) == 1 else cells


def equinox_written(weights: Any) -> Any:
    if isinstance(weights, list):
        return [equinox_written(cell) for cell in weights]
    if isinstance(weights, dict):
        return weights
    return {name: getattr(weights, name) for name in ("weight_ih", "weight_hh", "bias")}


def build_torch(network: Network) -> Built:
    torch = need("torch")
    from crosscheck.libraries.torch_ref import build

    module = build(case_of(network), torch.nn.LSTM, torch.nn.RNN).double()
    tensor = lambda a: torch.tensor(np.asarray(a))

    def run(weights, x, h0, c0):
        tensors = {name: tensor(a) for name, a in weights.items()}
        with torch.no_grad():
            y, (h, c) = torch.func.functional_call(module, tensors, (tensor(x), (tensor(h0), tensor(c0))))
        return y.numpy(), h.numpy(), c.numpy()

    return Built({name: np.empty(tensor.shape) for name, tensor in module.state_dict().items()}, run)


def build_cudnn(network: Network) -> Built:
    built = build_adapter(network, "jax_cudnn", lambda library, network, case: cudnn_like(network))

    def run(*arrays):
        with mock.patch.object(rnn, "lstm", lstm_without_cudnn):
            return built.run(*arrays)

    return Built(built.like, run)


def cudnn_like(network: Network) -> jax.ShapeDtypeStruct:
    sizes = (network.input_size, network.hidden_size, network.num_layers, network.bidirectional)
    return jax.ShapeDtypeStruct((rnn.get_num_params_in_lstm(*sizes),), jnp.float64)


def lstm_without_cudnn(x, h, c, weights, lengths, inputs, hidden, layers, dropout, bidirectional, precision):
    """JAX's own reading of the vector, and its reference of cuDNN's call, in place of `rnn.lstm`."""
    assert weights.size == rnn.get_num_params_in_lstm(inputs, hidden, layers, bidirectional)
    unpacked = rnn.unpack_lstm_weights(weights, inputs, hidden, layers, bidirectional)
    return rnn.lstm_ref(x, h, c, *unpacked, lengths, inputs, hidden, layers, dropout, bidirectional)


def _cudnn_options(network: Network) -> dict[str, Any]:
    return {name: getattr(network, name) for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}


def _adapted(file: str, *functions: Callable[..., Any], **options: str) -> Callable[[Network], Built]:
    return lambda network: build_adapter(network, file, *functions, **options)


def _flax(kind: str, cell: str) -> Library:
    name = f"{kind}.{cell}"
    if kind == "linen":
        return Library(name, convert.from_flax, convert.to_flax, _adapted("flax_linen", linen_like, cell=cell))
    build = _adapted("flax_nnx", nnx_like, nnx_written, cell=cell)
    return Library(name, convert.from_nnx, partial(convert.to_nnx, cell=cell), build)


LIBRARIES = {
    library.name: library
    for library in (
        *(_flax(kind, cell) for kind in ("linen", "nnx") for cell in ("LSTMCell", "OptimizedLSTMCell")),
        Library(
            "haiku", convert.from_haiku, convert.to_haiku, _adapted("haiku", haiku_like), "haiku", bidirectional=False
        ),
        Library(
            "equinox",
            convert.from_equinox,
            convert.to_equinox,
            _adapted("equinox", equinox_like, equinox_written),
            "equinox",
            no_bias=True,
            options=lambda network: {"bidirectional": network.bidirectional},
        ),
        Library("cudnn", convert.from_cudnn, convert.to_cudnn, build_cudnn, two_biases=True, options=_cudnn_options),
        Library("torch", convert.from_torch, convert.to_torch, build_torch, "torch", no_bias=True, two_biases=True),
    )
}
PAIRS = [
    pytest.param(library, network, id=f"{name}-{of}")
    for name, library in LIBRARIES.items()
    for of, network in NETWORKS.items()
    if library.has(network)
]
