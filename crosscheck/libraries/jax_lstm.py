"""Our Flax modules, jitted: what users import, and no private function of ours."""

from __future__ import annotations

from functools import partial
from typing import Any

import optax
from flax.traverse_util import unflatten_dict

import jax_lstm
from crosscheck.core.jax_runner import run_jax
from crosscheck.lstm.cases import Case, TextCase
from jax_lstm import LSTMState, linen


def runner(case: Case, **options: Any):
    return partial(run_jax, function(case, **options))


def function(case: Case, **options: Any):
    """fn(params, *inputs) of a case; ``options`` are more of the module's."""
    if isinstance(case, TextCase):
        return text_function(case, **options)
    lengths = None if case.lengths is None else list(case.lengths)
    if case.kind == "rnn":

        def rnn(params, x, h0):
            options = {"nonlinearity": case.nonlinearity, "time_major": case.time_major}
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

    def lstm(params, x, states):
        h0, c0 = states
        y, state = module.apply({"params": params}, x, LSTMState(h0, c0), lengths=lengths)
        return y, (state.h, state.c)

    return lstm


def text_function(case: TextCase, **options: Any):
    sizes = (case.vocab_size, case.embedding_size, case.hidden_size, case.vocab_size)
    module = linen.SequenceModel(*sizes, num_layers=case.num_layers, **options)

    def model(params, tokens, targets):
        logits, _ = module.apply({"params": unflatten_dict(params, sep=".")}, tokens)
        return logits, optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return model
