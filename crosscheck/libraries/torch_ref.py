"""The reference: the equations in a plain Python loop over torch."""

from __future__ import annotations

import torch

import torch_ref
from crosscheck.core.torch_runner import run_torch
from crosscheck.lstm.cases import Case, RecurrentCase, TextCase


def runner(case: Case):
    if isinstance(case, TextCase):
        return text_runner(case, torch_ref.LSTM)
    module = build(case, torch_ref.LSTM, torch_ref.RNN)

    def call(module, x, states):
        y, last = module(x, states, lengths=case.lengths)
        return y, last

    return lambda problem, dtype, **options: run_torch(module, problem, dtype, torch_fn=call, **options)


def build(case: RecurrentCase, lstm: type[torch.nn.Module], rnn: type[torch.nn.Module]) -> torch.nn.Module:
    """The module of a case from one of two classes with torch.nn's constructors."""
    options = {
        "num_layers": case.num_layers,
        "bias": case.bias,
        "bidirectional": case.bidirectional,
        "batch_first": not case.time_major,
    }
    if case.kind == "rnn":
        return rnn(case.input_size, case.hidden_size, nonlinearity=case.nonlinearity, **options)
    return lstm(case.input_size, case.hidden_size, proj_size=case.proj_size, **options)


def text_runner(case: TextCase, lstm: type[torch.nn.Module]):
    sizes = (case.vocab_size, case.embedding_size, case.hidden_size, case.vocab_size, case.num_layers)
    module = torch_ref.SequenceModel(*sizes, lstm=lstm)

    def call(module, tokens, targets):
        logits, _ = module(tokens)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    return lambda problem, dtype, **options: run_torch(module, problem, dtype, torch_fn=call, **options)
