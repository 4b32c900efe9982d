"""torch_ref.SequenceModel gives the same results with either LSTM."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import torch

import torch_ref


def test_sequence_model_on_either_lstm():
    ours = torch_ref.SequenceModel(11, 3, 5, 7, num_layers=2)
    theirs = torch_ref.SequenceModel(11, 3, 5, 7, num_layers=2, lstm=torch.nn.LSTM)
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict())[:2] == ["embedding.weight", "lstm.weight_ih_l0"]
    tokens = torch.randint(0, 11, (2, 6))
    torch.testing.assert_close(ours(tokens), theirs(tokens))
    assert ours(tokens)[0].shape == (2, 6, 7)
