"""torch_ref.NotebookLSTM: the class as it was published, its two departures from the equations, and its correction."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from functools import partial

import pytest
import torch

import torch_ref

assert_same = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-14)


@pytest.fixture
def notebook():
    torch.manual_seed(0)
    published = torch_ref.NotebookLSTM(300, 256).double()
    faithful = torch_ref.NotebookLSTM(300, 256, as_published=False).double()
    faithful.load_state_dict(published.state_dict())
    x, h, c = torch.randn(2, 10, 300), torch.randn(2, 256), torch.randn(2, 256)
    return published, faithful, tuple(a.double() for a in (x, h, c))


def test_the_shapes_are_those_in_the_notebook(notebook):
    for module in notebook[:2]:
        outputs, (h, c) = module(*notebook[2])
        assert outputs.shape == (2, 10, 256)
        assert h.shape == c.shape == (2, 256)
        assert torch.cat((h, c), dim=1).shape == (2, 512)
    outputs, (h, c) = torch_ref.LSTM(300, 256, 1, batch_first=True)(torch.randn(2, 10, 300))
    assert (outputs.shape, h.shape, c.shape) == ((2, 10, 256), (1, 2, 256), (1, 2, 256))


def test_the_corrected_version_agrees_with_torch_nn(notebook):
    _, faithful, (x, h, c) = notebook
    lstm = torch.nn.LSTM(300, 256, 1, batch_first=True).double()
    lstm.load_state_dict(faithful.lstm_state_dict())
    expected, (h_n, c_n) = lstm(x, (h[None], c[None]))
    assert_same(faithful(x, h, c), (expected, (h_n[0], c_n[0])))


def test_first_departure_all_gates_use_the_weights_of_f(notebook):
    published, faithful, inputs = notebook
    before = published(*inputs)
    for gate in (published.i, published.c_, published.o):
        torch.nn.init.normal_(gate.weight)
    assert_same(published(*inputs), before)
    for gate in (faithful.i, faithful.c_, faithful.o):
        gate.load_state_dict(faithful.f.state_dict())
    assert_same(faithful(*inputs)[1], before[1])


def test_second_departure_hidden_states_are_cell_states(notebook):
    published, faithful, inputs = notebook
    outputs, (h, c) = published(*inputs)
    torch.testing.assert_close(outputs[:, -1], c, rtol=0, atol=0)
    assert not torch.allclose(outputs[:, -1], h)
    outputs, (h, _) = faithful(*inputs)
    torch.testing.assert_close(outputs[:, -1], h, rtol=0, atol=0)
