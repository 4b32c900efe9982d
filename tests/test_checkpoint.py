"""Finding the LSTMs in a checkpoint: all of them, only them, and a reason for what is left out."""

from __future__ import annotations

from tests.requirements import need

need("torch")

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from crosscheck.checkpoint import Skipped, case_of, find_lstms, look, read_arrays


def training_checkpoint(path: Path) -> torch.nn.ModuleDict:
    """As training scripts write them: a compiled model in DataParallel, two optimizers' states, numbers and strings."""
    model = torch.nn.ModuleDict(
        {"lstm": torch.nn.LSTM(3, 5), "cell": torch.nn.LSTMCell(4, 6), "fc": torch.nn.Linear(5, 2)}
    )
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    moments = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    by_name = {"exp_avg": moments, "mu": moments, "step": 3}
    content = {
        "epoch": 3,
        "model_state": wrapped,
        "optim": [optimizer.state_dict(), by_name],
        "name": "x",
        "best": (0.1, None),
    }
    torch.save(content, path)
    return model


def test_a_training_checkpoint_has_its_models_lstms_and_not_its_optimizers(tmp_path):
    model = training_checkpoint(tmp_path / "a.pt")
    arrays = read_arrays(tmp_path / "a.pt")
    assert "optim.0.state.0.exp_avg" in arrays
    assert not {"epoch", "name"} & set(arrays)
    lstm, cell = find_lstms(arrays)
    assert (lstm.prefix, lstm.kind) == ("model_state.module._orig_mod.lstm", "nn.LSTM")
    assert (cell.prefix, cell.kind) == ("model_state.module._orig_mod.cell", "nn.LSTMCell")
    for found, module in ((lstm, model["lstm"]), (cell, model["cell"])):
        assert list(found.params) == list(module.state_dict())
        for name, tensor in module.state_dict().items():
            np.testing.assert_array_equal(found.params[name], tensor)
    skipped = [entry for entry in look(arrays) if isinstance(entry, Skipped)]
    assert {s.kind for s in skipped} == {"optimizer state"}
    assert {s.prefix for s in skipped} == {
        f"optim.1.{m}.{part}" for m in ("exp_avg", "mu") for part in ("lstm", "cell")
    }


PARTS = st.sampled_from(["lstm", "lstm2", "module", "_orig_mod", "0", "1", "mu", "fc", "rnn_l0", "größe", "a b"])
SIZES = st.integers(1, 5)


@st.composite
def modules(draw):
    """nn.LSTM or nn.LSTMCell with any options."""
    inputs, hidden, bias = draw(SIZES), draw(SIZES), draw(st.booleans())
    if draw(st.booleans()):
        return torch.nn.LSTMCell(inputs, hidden, bias)
    projection = draw(st.integers(0, hidden - 1))
    both = draw(st.booleans())
    return torch.nn.LSTM(inputs, hidden, draw(st.integers(1, 3)), bias, bidirectional=both, proj_size=projection)


@settings(max_examples=60, deadline=None)
@given(
    lstms=st.dictionaries(st.lists(PARTS, max_size=4).map(".".join), modules(), max_size=4),
    others=st.dictionaries(
        st.lists(PARTS, min_size=1, max_size=3).map(".".join),
        st.sampled_from([torch.nn.GRU(2, 3), torch.nn.RNNCell(2, 3), torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2)]),
        max_size=3,
    ),
    nested=st.booleans(),
    asked=st.lists(PARTS, max_size=2).map(".".join),
)
def test_just_the_lstms_are_found_at_any_prefix_and_nesting(lstms, others, nested, asked):
    chosen = {prefix: module for prefix, module in others.items() if prefix not in lstms} | lstms
    flat = {
        f"{prefix}.{name}".lstrip("."): tensor
        for prefix, module in chosen.items()
        for name, tensor in module.state_dict().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        torch.save([unflatten_dict(flat, sep=".") if nested else flat], path)
        arrays = {name.removeprefix("0."): array for name, array in read_arrays(path).items()}
    found = {lstm.prefix: lstm for lstm in find_lstms(arrays, asked)}
    assert found.keys() == {p for p in lstms if not asked or p == asked or p.startswith(asked + ".")}
    for prefix, lstm in found.items():
        module = lstms[prefix]
        assert lstm.kind == f"nn.{type(module).__name__}"
        assert set(lstm.params) == set(module.state_dict())
        for name, tensor in module.state_dict().items():
            np.testing.assert_array_equal(lstm.params[name], tensor)
        network = lstm.network
        options = ("input_size", "hidden_size", "bias", "num_layers", "bidirectional", "proj_size")
        given = {name: getattr(module, name) for name in options if hasattr(module, name)}
        assert given == {name: getattr(network, name) for name in given}
        case = case_of(lstm)
        assert case.shapes().keys() == lstm.stack_params.keys()
        assert len({case.batch, case.steps, network.input_size, network.hidden_size}) == (
            4 - (network.input_size == network.hidden_size)
        )
        for name, weight in case.problem.params.items():
            np.testing.assert_array_equal(weight, lstm.stack_params[name].astype(np.float64))


def lstm(**changes):
    """A small LSTM's arrays with some entries replaced, or dropped where None."""
    state = {name: tensor.numpy() for name, tensor in torch.nn.LSTM(3, 5, 2).state_dict().items()} | changes
    return {f"net.{name}": array for name, array in state.items() if array is not None}


NAN = np.zeros(20, np.float32)
NAN[3:5] = np.nan, np.inf


@pytest.mark.parametrize(
    ("arrays", "kind", "words"),
    [
        ({f"net.{n}": t.numpy() for n, t in torch.nn.GRU(3, 5).state_dict().items()}, "nn.GRU", "only LSTMs"),
        ({f"net.{n}": t.numpy() for n, t in torch.nn.GRUCell(3, 5).state_dict().items()}, "nn.GRUCell", "only LSTMs"),
        ({f"net.{n}": t.numpy() for n, t in torch.nn.RNN(3, 5).state_dict().items()}, "nn.RNN", "only LSTMs"),
        (lstm(weight_hh_l0=None), "nn.LSTM", "lacks 'weight_hh_l0'"),
        (lstm(bias_hh_l1=None), "nn.LSTM", "lacks 'bias_hh_l1'"),
        (lstm(weight_ih_l1=np.zeros((20, 4), np.float32)), "nn.LSTM", "must have shape (20, 5); got (20, 4)"),
        (lstm(weight_hh_l0=np.zeros((20, 3), np.float32)), "unknown", "[4H, H] for an LSTM"),
        (lstm(weight_hh_l0=np.zeros(20, np.float32)), "unknown", "must be a matrix"),
        (lstm(weight_hh_l0=np.zeros((0, 0), np.float32)), "unknown", "no numbers"),
        (lstm(weight_ih_l0=np.zeros((20, 0), np.float32)), "nn.LSTM", "'weight_ih_l0' has shape (20, 0)"),
        (lstm(weight_hh_l0=np.zeros((20, 5), np.int8)), "nn.LSTM", "'weight_hh_l0' is int8, not floating point"),
        (lstm(bias_ih_l0=np.zeros(20, np.complex64)), "nn.LSTM", "'bias_ih_l0' is complex64"),
        (lstm(bias_ih_l1=NAN), "nn.LSTM", "NaN or inf in 'bias_ih_l1' (2 of 20)"),
        (lstm(bias_ih_l9999=np.zeros(20, np.float32)), "nn.LSTM", "a layer 9999 and not every layer below"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_said_and_its_neighbour_is_found(arrays, kind, words):
    neighbour = {name.replace("net.", "net.inner."): array for name, array in lstm().items()}
    left, found = look(arrays | neighbour)
    assert isinstance(left, Skipped)
    assert (left.prefix, left.kind, left.is_lstm) == ("net", kind, kind == "nn.LSTM")
    assert words in left.reason
    assert [entry.prefix for entry in find_lstms(arrays | neighbour)] == ["net.inner"] == [found.prefix]


def reparametrised():
    """The ways in which torch and its users keep a weight under other names."""
    lstm, gru = torch.nn.LSTM(3, 5), torch.nn.GRU(3, 5)
    yield torch.nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0").state_dict(), "nn.LSTM"
    yield torch.nn.utils.parametrizations.weight_norm(gru, "weight_hh_l0").state_dict(), "nn.GRU"
    yield prune.l1_unstructured(torch.nn.LSTM(3, 5), "weight_ih_l0", 3).state_dict(), "nn.LSTM"
    state = torch.nn.LSTM(3, 5).state_dict()
    state["weight_hh_l0_raw"] = state.pop("weight_hh_l0")
    yield state, "nn.LSTM"


def test_rewritten_weights_are_named():
    for state, kind in reparametrised():
        (left,) = look({f"net.{name}": tensor.numpy() for name, tensor in state.items()})
        assert isinstance(left, Skipped)
        assert (left.prefix, left.kind) == ("net", kind)
        assert ("weight norm, pruning or the like" in left.reason) == (kind == "nn.LSTM")
