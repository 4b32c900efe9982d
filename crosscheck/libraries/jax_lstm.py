"""Our Flax modules, jitted: what users import, and no private function of ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from flax.traverse_util import unflatten_dict

import jax_lstm
from crosscheck.core.jax_runner import run_jax
from crosscheck.libraries.adapter import NO_PROJECTION, NO_RNN, Params
from crosscheck.libraries.implementation import NotInstalled, Runner, require
from crosscheck.lstm.cases import Case, TextCase
from jax_lstm import LSTMState, linen

LACKING = {"scan": {"RNN": NO_RNN}, "native": {"RNN": NO_RNN, "projection": NO_PROJECTION}}  # by backend


def runner(case: Case, **options: Any) -> Runner:
    """Return the runner. ``options`` are more of `linen.LSTM`'s.

    Raises:
      NotSupported: the case asks for what the given backend lacks.
      NotInstalled: the backend is "native", and its compiled file is not there or does not load.
    """
    backend = options.get("backend", "auto")
    require(case, LACKING.get(backend, {}))
    if backend == "native":
        _require_kernels()
    return partial(run_jax, function(case, **options))


def _require_kernels() -> None:
    array = jax.ShapeDtypeStruct
    weights = {name: array((4, 1), "float32") for name in ("weight_ih_l0", "weight_hh_l0")}
    choice = jax_lstm.choose_backend(weights, array((2, 1), "float32"))
    if choice.backend != "native":  # the network is as plain as can be, so that only the compiled file is an obstacle
        raise NotInstalled(choice.reason)


def function(case: Case, **options: Any) -> Callable[..., Any]:
    """Return ``fn(params, *inputs)`` of a case. ``options`` are more of `linen.LSTM`'s."""
    if isinstance(case, TextCase):
        return _text_model(case, **options)
    lengths = None if case.lengths is None else list(case.lengths)
    if case.kind == "rnn":

        def rnn(params: Params, x: jax.Array, h0: jax.Array) -> Any:
            options: dict[str, Any] = {"nonlinearity": case.nonlinearity, "time_major": case.time_major}
            return jax_lstm.rnn(params, x, h0, lengths=lengths, **options)

        return rnn
    module = linen.LSTM(
        case.hidden_size,
        num_layers=case.num_layers,
        bias=case.bias,
        bidirectional=case.bidirectional,
        proj_size=case.proj_size,
        time_major=case.time_major,
        **options,
    )

    def lstm(params: Params, x: jax.Array, states: tuple[jax.Array, jax.Array]) -> Any:
        run: Callable[..., Any] = module.apply
        y, state = run({"params": params}, x, LSTMState(*states), lengths=lengths)
        return y, (state.h, state.c)

    return lstm


def _text_model(case: TextCase, **options: Any) -> Callable[..., Any]:
    sizes = (case.vocab_size, case.embedding_size, case.hidden_size, case.vocab_size)
    module = linen.SequenceModel(*sizes, num_layers=case.num_layers, lstm_options=options)

    def model(params: Params, tokens: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, _ = module.apply({"params": unflatten_dict(params, sep=".")}, tokens)
        return logits, optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return model
