"""The reference: the equations in a plain Python loop over torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import torch_ref
from crosscheck.core.torch_runner import run_torch
from crosscheck.libraries.implementation import Runner
from crosscheck.lstm.cases import Case, RecurrentCase, TextCase


def runner(case: Case) -> Runner:
    """Return the runner."""
    if isinstance(case, TextCase):
        return text_runner(case, torch_ref.LSTM)
    call = lambda module, x, states: tuple(module(x, states, lengths=case.lengths))
    return partial(run_torch, build(case, torch_ref.LSTM, torch_ref.RNN), torch_fn=call)


def build(case: RecurrentCase, lstm: type[torch.nn.Module], rnn: type[torch.nn.Module]) -> torch.nn.Module:
    """Return the module of a case, from one of two classes with torch.nn's constructors."""
    options: dict[str, Any] = {
        "num_layers": case.num_layers,
        "bias": case.bias,
        "bidirectional": case.bidirectional,
        "batch_first": not case.time_major,
    }
    if case.kind == "rnn":
        return rnn(case.input_size, case.hidden_size, nonlinearity=case.nonlinearity, **options)
    return lstm(case.input_size, case.hidden_size, proj_size=case.proj_size, **options)


def text_runner(case: TextCase, lstm: type[torch.nn.Module]) -> Runner:
    """Return the runner of a text case, on an LSTM class with torch.nn's constructor."""
    sizes = (case.vocab_size, case.embedding_size, case.hidden_size, case.vocab_size, case.num_layers)
    module = torch_ref.SequenceModel(*sizes, lstm=lstm)

    def call(module: torch.nn.Module, tokens: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, _ = module(tokens)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    return partial(run_torch, module, torch_fn=call)
