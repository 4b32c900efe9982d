"""The LSTMs in a checkpoint: exactly the LSTMs are found, and each refused one has a reason."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from crosscheck.studies.checkpoint import Checkpoint, Skipped, case_of, find_lstms, find_networks, read_checkpoint


def training_checkpoint(path: Path) -> torch.nn.ModuleDict:
    """Write a typical training checkpoint: a compiled model in DataParallel, two optimizers, numbers and strings."""
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
    arrays = read_checkpoint(tmp_path / "a.pt").arrays
    assert "optim.0.state.0.exp_avg" in arrays
    assert not {"epoch", "name"} & set(arrays)
    lstm, cell = find_lstms(arrays)
    assert (lstm.prefix, lstm.kind) == ("model_state.module._orig_mod.lstm", "nn.LSTM")
    assert (cell.prefix, cell.kind) == ("model_state.module._orig_mod.cell", "nn.LSTMCell")
    for found, module in ((lstm, model["lstm"]), (cell, model["cell"])):
        assert list(found.params) == list(module.state_dict())
        for name, tensor in module.state_dict().items():
            np.testing.assert_array_equal(found.params[name], tensor)
    skipped = [entry for entry in find_networks(arrays) if isinstance(entry, Skipped)]
    assert {s.kind for s in skipped} == {"optimizer state"}
    assert {s.prefix for s in skipped} == {
        f"optim.1.{m}.{part}" for m in ("exp_avg", "mu") for part in ("lstm", "cell")
    }


PARTS = st.sampled_from(["lstm", "lstm2", "module", "_orig_mod", "0", "1", "mu", "fc", "rnn_l0", "größe", "a b"])
SIZES = st.integers(1, 5)


@st.composite
def modules(draw):
    """Draw an nn.LSTM or nn.LSTMCell with any options."""
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
        arrays = {name.removeprefix("0."): array for name, array in read_checkpoint(path).arrays.items()}
    entries = {entry.prefix: entry for entry in find_networks(arrays, asked)}
    found = {lstm.prefix: lstm for lstm in find_lstms(arrays, asked)}
    wanted = {p for p in lstms if not asked or p == asked or p.startswith(asked + ".")}
    plain = {p for p in wanted if not any(has_below(p, other) for other in chosen if other != p)}
    assert found.keys() == plain
    assert all("this is no plain nn." in entries[p].reason for p in wanted - plain)
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


def has_below(prefix, other):
    """Return whether a module at ``other`` is a part of the one at ``prefix``."""
    return not prefix or other.startswith(f"{prefix}.")


def lstm(**changes):
    """Return a small LSTM's arrays with some entries replaced. None drops an entry."""
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
    neighbour = {name.replace("net.", "other."): array for name, array in lstm().items()}
    left, found = find_networks(arrays | neighbour)
    assert isinstance(left, Skipped)
    assert (left.prefix, left.kind, left.is_lstm) == ("net", kind, kind == "nn.LSTM")
    assert words in left.reason
    assert [entry.prefix for entry in find_lstms(arrays | neighbour)] == ["other"] == [found.prefix]


def cell(**more):
    state = torch.nn.LSTMCell(3, 5).state_dict() | more
    return {f"net.cell.{name}": np.asarray(array) for name, array in state.items()}


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        (cell(weight_pi=np.ones(5)), "net.cell.weight_pi, and"),
        (cell(**{"ln_ih.weight": np.ones(5)}), "net.cell.ln_ih.weight, and"),
        (cell(**{f"l.{n}": np.ones(5) for n in range(6)}), "cell.l.1, net.cell.l.2, net.cell.l.3, ..."),
        ({"fc.weight": np.ones(2)} | {n.removeprefix("net.cell."): a for n, a in cell().items()}, "fc.weight, and"),
        ({"enc_ln": np.ones(2)} | {n.replace("net.cell.", "enc_"): a for n, a in cell().items()}, "enc_ln, and"),
    ],
)  # fmt: skip
def test_what_lies_beside_a_cell_is_named_and_it_is_not_checked(arrays, named):
    (left,) = find_networks(arrays)
    assert isinstance(left, Skipped)
    assert (left.kind, left.is_lstm) == ("nn.LSTMCell", True)
    assert left.reason.startswith("this is no plain nn.LSTMCell: under the same prefix lie ")
    assert named in left.reason


@pytest.mark.parametrize("beside", ["option_gate.weight", "opt_bias", "optical", "step"])
def test_what_only_begins_like_an_optimizer_is_beside_a_cell(beside):
    (left,) = find_networks(cell() | {f"net.cell.{beside}": np.ones(3)})
    assert isinstance(left, Skipped)


def test_a_model_may_have_a_part_that_begins_like_an_optimizer():
    arrays = {name.replace("net.cell.", "optics.mu."): array for name, array in cell().items()}
    assert [found.prefix for found in find_lstms(arrays)] == ["optics.mu"]


def test_what_is_found_is_a_copy():
    """The file is mapped into memory and may change."""
    arrays = cell()
    (found,) = find_lstms(arrays)
    assert not any(np.shares_memory(found.params[n.removeprefix("net.cell.")], a) for n, a in arrays.items())


@pytest.mark.parametrize(
    "other", ["net.fc.weight", "net.cell2.ln", "net.cellar", "net.cell.opt.step", "net.cell.exp_avg.x"]
)
def test_what_lies_elsewhere_is_not_beside_it(other):
    (found,) = find_lstms(cell() | {other: np.ones(3)})
    assert found.prefix == "net.cell"


def test_two_networks_may_begin_alike():
    """Names without a dot have no module. So "enc_" and "enc_2_" are two networks of one module."""
    arrays = {n.replace("net.cell.", before): a for before in ("enc_", "enc_2_") for n, a in cell().items()}
    assert [found.prefix for found in find_lstms(arrays)] == ["enc", "enc_2"]


def test_the_raw_weight_of_weight_drop_is_the_weight():
    state = {f"net.{name}": tensor.numpy() for name, tensor in torch.nn.LSTM(3, 5).state_dict().items()}
    raw = state["net.weight_hh_l0"]
    for dropped in ({"net.weight_hh_l0": raw * (raw > 0)}, {}):
        rest = {name: array for name, array in state.items() if name != "net.weight_hh_l0"}
        (found,) = find_lstms(rest | dropped | {"net.weight_hh_l0_raw": raw})
        np.testing.assert_array_equal(found.params["weight_hh_l0"], raw)
        assert found.notes[0].startswith("weight_hh_l0 is WeightDrop's weight_hh_l0_raw")


def test_a_folded_gru_is_a_gru():
    gru = torch.nn.utils.parametrizations.weight_norm(torch.nn.GRU(3, 5), "weight_hh_l0")
    (left,) = find_networks({f"net.{name}": tensor.numpy() for name, tensor in gru.state_dict().items()})
    assert (left.kind, left.is_lstm) == ("nn.GRU", False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_weight_norm_is_torchs_in_any_dtype(dtype):
    torch.manual_seed(0)
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTMCell(3, 5), "weight_hh")
    module = module.to(getattr(torch, dtype))

    def array(tensor):
        return tensor.double().numpy().astype(dtype)  # ml_dtypes gives NumPy the name bfloat16

    (found,) = find_lstms({f"net.{name}": array(tensor) for name, tensor in module.state_dict().items()})
    np.testing.assert_array_equal(found.params["weight_hh"], array(module.weight_hh.detach()), strict=True)


LOW_RANK = {
    "parametrizations.weight_hh.original0": np.ones((20, 1)),
    "parametrizations.weight_hh.original1": np.ones((1, 5)),
}


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        ({"weight_hh_orig": np.ones((20, 5)), "weight_hh_u": np.ones(20)}, "under spectral_norm"),
        ({"weight_hh_orig": np.ones((20, 5))}, "the file has weight_hh_orig. Save it after prune.remove"),
        ({"weight_hh_orig": np.ones((20, 5)), "weight_hh_mask": np.ones((20, 1))}, "its parts do not fit"),
        ({"weight_hh": np.ones((20, 5)), "weight_hh_mask": np.ones((20, 5))}, "the file has weight_hh, weight_hh_mask"),
        ({"weight_hh_g": np.ones((20, 1))}, "stored as weight_hh_g, which is no form that is known here"),
        ({"weight_hh_g": np.ones((7, 1)), "weight_hh_v": np.ones((20, 5))}, "stored as weight_hh_g, weight_hh_v"),
        (LOW_RANK, "under a parametrization that the file does not name (it has original0, original1)"),
        ({"parametrizations.weight_hh.original": np.ones((20, 5))}, "(it has original)"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_known_is_refused_by_name(forms, words):
    arrays = {name: array for name, array in cell().items() if name != "net.cell.weight_hh"}
    (left,) = find_networks(arrays | {f"net.cell.{name}": array for name, array in forms.items()})
    assert isinstance(left, Skipped)
    assert left.kind == "nn.LSTMCell"
    assert words in left.reason


def quantized(*inputs):
    """Return the arrays of the cells of a quantized nn.LSTM with H = 5."""
    return {
        f"net._all_weight_values.{cell}.param.{to}.{name}": np.ones(shape, np.float32)
        for cell, size in enumerate(inputs)
        for to, columns in (("ih", size), ("hh", 5))
        for name, shape in (("weight", (20, columns)), ("bias", (20,)))
    }


@pytest.mark.parametrize(
    ("inputs", "layers", "directions"), [((3,), 1, 1), ((3, 5), 2, 1), ((3, 3), 1, 2), ((3, 3, 10, 10), 2, 2)]
)
def test_the_cells_of_a_quantized_network_are_put_in_their_places(inputs, layers, directions):
    (found,) = find_lstms(quantized(*inputs))
    assert (found.network.num_layers, found.network.directions) == (layers, directions)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (quantized(5, 5), "its 2 cells may be two layers or two directions"),
        (quantized(3, 4), "its 2 cells fit neither one direction nor two"),
        ({n.replace(".0.param", ".1.param"): a for n, a in quantized(3).items()}, "some of its layers are missing"),
        ({n: a for n, a in quantized(3).items() if "ih.weight" not in n}, "its packed weights are not whole"),
    ],
)
def test_a_quantized_network_that_is_not_whole_is_refused(arrays, words):
    (left,) = find_networks(arrays)
    assert isinstance(left, Skipped)
    assert words in left.reason


def test_what_a_part_of_a_file_refuses_is_refused_in_the_whole():
    part = Checkpoint(refused=[Skipped("a", "nn.LSTM", "a has clip", is_lstm=True)])
    whole = Checkpoint()
    whole.add(part, "part.")
    assert find_networks(whole) == [Skipped("part.a", "nn.LSTM", "a has clip", is_lstm=True)]
