"""The libraries that jax_lstm.convert reads and writes, run by their adapters in crosscheck.libraries.

tests.support.conversion compares them with ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import rnn

from crosscheck.libraries import STANDARD, Adapter, flax_linen, flax_nnx, jax_cudnn, load_library
from crosscheck.lstm.cases import Case, RecurrentCase, TextCase
from jax_lstm import convert
from jax_lstm._src import cpu_library
from jax_lstm._src.network import Network
from tests.support.requirements import need

B, T, D, H = 3, 6, 4, 5
NETWORKS = {
    "one": Network("lstm", D, H),
    "three layers": Network("lstm", D, H, 3),
    "both directions": Network("lstm", D, H, bidirectional=True),
    "two layers, both directions": Network("lstm", D, H, 2, bidirectional=True),
    "no bias": Network("lstm", D, H, 2, bias=False),
    "square": Network("lstm", H, H, 2),  # every gate's matrices are H x H: shapes do not distinguish them
    "square, both directions": Network("lstm", H, H, bidirectional=True),
}


def case_of(network: Network) -> RecurrentCase:
    """Return the network as the adapters take it."""
    names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional")
    return RecurrentCase("", "", B, T, **{name: getattr(network, name) for name in names})


@dataclass(frozen=True)
class Built:
    """``like``: the shapes of the library's own tree of weights. ``run``: (weights, x, h0, c0) -> y, h_n, c_n.

    ``run`` takes such a tree, and also the result of `to_x`.
    """

    like: Any
    run: Callable[..., Any]


@dataclass(frozen=True)
class Library:
    """A library's features: two directions, no bias, two biases. ``options`` gives the options of `from_x`."""

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
        """Return `from_x` with the options that the library's names and shapes do not show."""
        return partial(self.read, **self.options(network))


def inputs(network: Network):
    """Return x, h0 and c0: float64 and not zero."""
    rng = np.random.default_rng(1)
    rows = len(network.rows)
    return (jnp.asarray(rng.normal(size=shape)) for shape in ((B, T, network.input_size), *[(rows, B, H)] * 2))


def built(like: Any, adapter: Adapter, as_written: Callable[[Any], Any] = lambda weights: weights) -> Built:
    """Return tree and runner. ``as_written`` gives weights the layout of `to_x`, which they may already have."""
    return Built(like, jax.jit(lambda weights, *arrays: adapter.run(as_written(weights), *arrays)))


def build_linen(network: Network, cell: str) -> Built:
    case, (x, h0, c0) = case_of(network), inputs(network)
    init = flax_linen.stack(case, cell, jnp.float64).init
    like = jax.eval_shape(init, jax.random.key(0), x, flax_linen.carries_of(case, h0, c0))["params"]
    single = case.num_layers == 1  # RNN by itself has no name for its layer
    return built(like["layers_0"] if single else like, flax_linen.adapter(case, cell))


def build_nnx(network: Network, cell: str) -> Built:
    case = case_of(network)
    _, like, _ = nnx.split(flax_nnx.stack(case, cell, jnp.float64), nnx.Param, ...)
    as_written = lambda weights: nnx.to_pure_dict(weights) if isinstance(weights, nnx.State) else weights
    return built(like["layers"][0] if case.num_layers == 1 else like, flax_nnx.adapter(case, cell), as_written)


def build_haiku(network: Network) -> Built:
    haiku, case = load_library("haiku"), case_of(network)
    like = jax.eval_shape(haiku.transformed(case).init, jax.random.key(0), *inputs(network))
    return built(like, haiku.adapter(case))


def build_equinox(network: Network) -> Built:
    equinox, case = load_library("equinox"), case_of(network)
    cells = equinox.cells(case, jnp.float64)

    def as_written(weights):
        if isinstance(weights, list):
            return [as_written(cell) for cell in weights]
        names = ("weight_ih", "weight_hh", "bias")
        return weights if isinstance(weights, dict) else {name: getattr(weights, name) for name in names}

    return built(cells[0] if len(cells) == 1 else cells, equinox.adapter(case), as_written)


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
    length = rnn.get_num_params_in_lstm(**_cudnn_sizes(network))
    run = jax.jit(jax_cudnn.adapter(case_of(network)).run)

    def without_cudnn(*arrays):
        with mock.patch.object(rnn, "lstm", lstm_without_cudnn):
            return run(*arrays)

    return Built(jax.ShapeDtypeStruct((length,), jnp.float64), without_cudnn)


def lstm_without_cudnn(x, h, c, weights, lengths, inputs, hidden, layers, dropout, bidirectional, precision):
    """Unpack the vector with JAX's own function, and run JAX's reference of cuDNN's call instead of `rnn.lstm`."""
    assert weights.size == rnn.get_num_params_in_lstm(inputs, hidden, layers, bidirectional)
    unpacked = rnn.unpack_lstm_weights(weights, inputs, hidden, layers, bidirectional)
    return rnn.lstm_ref(x, h, c, *unpacked, lengths, inputs, hidden, layers, dropout, bidirectional)


def answering(case: Case) -> list[str]:
    """Return the implementations of the standard suite that have an answer to a case."""
    is_lstm = isinstance(case, TextCase) or case.kind == "lstm"
    has_projection = isinstance(case, RecurrentCase) and case.proj_size > 0
    has_kernels = is_lstm and not has_projection and cpu_library.load_library().missing is None
    return [*STANDARD, *["jax_lstm[native]"] * has_kernels, *["jax_lstm[scan]"] * is_lstm]


def without_library(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make a library look as if it were not installed."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"crosscheck.libraries.{module}", raising=False)


def _cudnn_sizes(network: Network) -> dict[str, Any]:
    return {name: getattr(network, name) for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}


def _flax(kind: str, cell: str) -> Library:
    read, write, build = {
        "linen": (convert.from_flax, convert.to_flax, build_linen),
        "nnx": (convert.from_nnx, partial(convert.to_nnx, cell=cell), build_nnx),
    }[kind]
    return Library(f"{kind}.{cell}", read, write, partial(build, cell=cell))


LIBRARIES = {
    library.name: library
    for library in (
        *(_flax(kind, cell) for kind in ("linen", "nnx") for cell in ("LSTMCell", "OptimizedLSTMCell")),
        Library("haiku", convert.from_haiku, convert.to_haiku, build_haiku, "haiku", bidirectional=False),
        Library(
            "equinox",
            convert.from_equinox,
            convert.to_equinox,
            build_equinox,
            "equinox",
            no_bias=True,
            options=lambda network: {"bidirectional": network.bidirectional},
        ),
        Library("cudnn", convert.from_cudnn, convert.to_cudnn, build_cudnn, two_biases=True, options=_cudnn_sizes),
        Library("torch", convert.from_torch, convert.to_torch, build_torch, "torch", no_bias=True, two_biases=True),
    )
}
PAIRS = [
    pytest.param(library, network, id=f"{name}-{of}")
    for name, library in LIBRARIES.items()
    for of, network in NETWORKS.items()
    if library.has(network)
]
