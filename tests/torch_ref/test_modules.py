"""torch_ref.LSTM and torch_ref.RNN are interchangeable with torch.nn's modules."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from functools import partial

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import torch_ref

assert_same = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-14)

OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "proj_size": 2, "bidirectional": True, "batch_first": True},
]


def pair(ours, theirs, options):
    theirs = theirs(3, 5, **options).double()
    ours = ours(3, 5, **options).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("shape", [(4, 6, 3), (6, 3)])
@pytest.mark.parametrize("options", OPTIONS)
def test_lstm_agrees_with_torch_nn(options, shape):
    ours, theirs = pair(torch_ref.LSTM, torch.nn.LSTM, options)
    x = torch.randn(shape, dtype=torch.float64)
    assert_same(ours(x), theirs(x))
    _, (h, c) = theirs(x)
    assert_same(ours(x, (h, c)), theirs(x, (h, c)))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("options", OPTIONS[:3])
def test_rnn_agrees_with_torch_nn(options, nonlinearity):
    ours, theirs = pair(torch_ref.RNN, torch.nn.RNN, options | {"nonlinearity": nonlinearity})
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    assert_same(ours(x), theirs(x))
    _, h = theirs(x)
    assert_same(ours(x, h), theirs(x, h))


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_packed_sequences(options, enforce_sorted):
    ours, theirs = pair(torch_ref.LSTM, torch.nn.LSTM, options)
    first = options.get("batch_first", False)
    x = torch.randn((4, 6, 3) if first else (6, 4, 3), dtype=torch.float64)
    lengths = torch.tensor([6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4])
    packed = pack_padded_sequence(x, lengths, first, enforce_sorted)
    (got, state), (expected, last) = ours(packed), theirs(packed)
    assert_same(tuple(got), tuple(expected))
    assert_same(state, last)
    y, state = ours(x, lengths=lengths)
    assert_same(y, pad_packed_sequence(expected, first)[0])
    assert_same(state, last)


def test_packed_sequences_in_another_order():
    """Rows of equal length may be packed in any order. The output keeps the order of the input."""
    ours, theirs = pair(torch_ref.LSTM, torch.nn.LSTM, {})
    order = torch.tensor([2, 3, 0, 1])
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    plain = pack_padded_sequence(x[:, order], torch.tensor([6, 4, 4, 1]))
    packed = PackedSequence(plain.data, plain.batch_sizes, order, torch.argsort(order))
    assert_same(tuple(ours(packed)[0]), tuple(theirs(packed)[0]))


def test_bad_arguments():
    rnn, lstm, x, h = torch_ref.RNN(3, 5), torch_ref.LSTM(3, 5), torch.randn(6, 4, 3), torch.randn(1, 4, 5)
    for call, error, message in (
        (lambda: rnn(x, (h,)), TypeError, "hx must be h_0, a tensor; got tuple"),
        (lambda: lstm(x, h), TypeError, r"hx must be \(h_0, c_0\), a tuple of tensors; got Tensor"),
        (lambda: lstm(x, (h, 0)), TypeError, "got Tensor, int"),
        (lambda: lstm(x, (h,)), ValueError, "hx must hold 2 tensors; got 1"),
        (lambda: torch_ref.LSTM(3, 5, 0), ValueError, "num_layers must be at least 1"),
        (lambda: torch_ref.LSTM(3, 5, proj_size=5), ValueError, "proj_size must be"),
        (lambda: torch_ref.RNN(3, 5, nonlinearity="gelu"), ValueError, "nonlinearity must be"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert repr(lstm).startswith("LSTM(3, 5, num_layers=1")


def test_lengths_of_zero_and_bad_lengths():
    module = torch_ref.LSTM(3, 5, bidirectional=True, batch_first=True)
    x, h, c = torch.randn(2, 6, 3), torch.randn(2, 2, 5), torch.randn(2, 2, 5)
    y, (h_n, c_n) = module(x, (h, c), lengths=[0, 6])
    assert (y[0] == 0).all()
    torch.testing.assert_close(h_n[:, 0], h[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(c_n[:, 0], c[:, 0], rtol=0, atol=0)
    for lengths, message in (([7, 1], "between 0 and T = 6"), ([1], "integers of shape"), ([0.5, 1.0], "integers")):
        with pytest.raises(ValueError, match=message):
            module(x, lengths=lengths)
    with pytest.raises(ValueError, match="3 features"):
        module(x[..., :2])
    with pytest.raises(ValueError, match="h must have shape"):
        module(x, (h[:1], c))


def test_dropout_between_layers_in_train_mode_only():
    module = torch_ref.LSTM(3, 5, 2, dropout=1.0)
    x = torch.randn(6, 4, 3)
    silent = torch_ref.LSTM(3, 5, 2)
    silent.load_state_dict({n: p * (n != "weight_ih_l1") for n, p in module.state_dict().items()})
    torch.testing.assert_close(module(x), silent(x))
    assert not torch.equal(module.eval()(x)[0], silent(x)[0])
