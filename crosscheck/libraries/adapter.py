"""What a JAX library gives to the cross-check, the benchmark and the tests: its weights, and its own loop over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from crosscheck.core.jax_runner import run_jax
from crosscheck.libraries.implementation import Runner, require
from crosscheck.lstm.cases import Case, RecurrentCase, TextCase

Params: TypeAlias = Mapping[str, jax.Array]  # by torch's names
Weights: TypeAlias = Any  # a tree of arrays in the library's own layout
State: TypeAlias = jax.Array | None  # [layers * directions, *batch, H]; None is the library's own zeros
Outputs: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]  # y, h_n, c_n


@dataclass(frozen=True)
class Adapter:
    """A network in a JAX library.

    Attributes:
      write: ``write(params)`` returns the weights in the library's own layout. It is affine: its transpose gives
        gradients by torch's names.
      run: ``run(weights, x, h0, c0)`` returns ``(y, h_n, c_n)`` of the library's own loop over time. ``x`` and ``y``
        have the layout of the case.
    """

    write: Callable[[Params], Weights]
    run: Callable[[Weights, jax.Array, State, State], Outputs]


AdapterOf: TypeAlias = Callable[[RecurrentCase], Adapter]


def adapter_runner(case: Case, lacking: Mapping[str, str], adapter_of: AdapterOf) -> Runner:
    """Return the runner of a library.

    Weights are written inside the differentiated function. Therefore gradients come back by torch's names, and a wrong
    converter shows as a wrong library.

    Args:
      case: the case.
      lacking: features that the library lacks, and the reasons.
      adapter_of: gives the adapter of a network.

    Raises:
      NotSupported: the library lacks what the case asks for.
    """
    require(case, lacking)
    if isinstance(case, TextCase):
        return partial(run_jax, _text_model(adapter_of(case.lstm)))
    adapter = adapter_of(case)

    def network(params: Params, x: jax.Array, states: tuple[jax.Array, jax.Array]) -> Any:
        y, *last = adapter.run(adapter.write(params), x, *states)
        return y, tuple(last)

    return partial(run_jax, network)


def _text_model(adapter: Adapter) -> Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    import optax  # the benchmark imports this module, and also runs without optax

    def model(params: Params, tokens: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        lstm = {name.removeprefix("lstm."): a for name, a in params.items() if name.startswith("lstm.")}
        y, *_ = adapter.run(adapter.write(lstm), params["embedding.weight"][tokens], None, None)
        logits = y @ params["fc.weight"].T + params["fc.bias"]
        return logits, optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return model


def zero_padding(y: jax.Array, case: RecurrentCase) -> jax.Array:
    """Return the outputs with zeros past each row's end, for a library that computes on in the padding."""
    if case.lengths is None:
        return y
    steps = jnp.arange(case.steps)[:, None] if case.time_major else jnp.arange(case.steps)
    lengths = jnp.asarray(case.lengths) if case.time_major else jnp.asarray(case.lengths)[:, None]
    return jnp.where((steps < lengths)[..., None], y, 0.0)


ALWAYS_A_BIAS = "its cell always has a bias"
ONE_DIRECTION = "it has no bidirectional network"
NO_RNN = "this implementation is for LSTMs"
NO_PROJECTION = "it has no projection"
