"""Modules and objects in checkpoint files: the reader knows the class that the file names, and loses no array."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import warnings
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from crosscheck.studies.checkpoint import FoundLSTM, Skipped, find_lstms, find_networks, read_checkpoint


class NormedCell(nn.LSTMCell):
    """A cell with the entries of an nn.LSTMCell that computes something else."""

    def forward(self, x, state):
        h, c = super().forward(x, state)
        return torch.relu(h), c


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_ih, self.weight_hh = nn.Parameter(torch.ones(20, 3)), nn.Parameter(torch.ones(20, 5))

    def forward(self, x):
        return torch.relu(x @ self.weight_ih.T) @ self.weight_hh


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))


def test_another_class_is_named_and_not_checked(tmp_path):
    torch.save(nn.ModuleDict({"cell": NormedCell(3, 5), "plain": nn.LSTMCell(3, 5)}), tmp_path / "a.pt")
    left, found = find_networks(read_checkpoint(tmp_path / "a.pt"))
    assert isinstance(left, Skipped)
    assert left.is_lstm
    assert f"this is no plain nn.LSTMCell: its class is {__name__}.NormedCell" in left.reason
    assert (found.prefix, isinstance(found, FoundLSTM)) == ("plain", True)


def test_another_class_of_torchscript_is_named_and_torchs_own_is_read(tmp_path):
    script(Scripted(), tmp_path / "a.pt")
    (left,) = find_networks(read_checkpoint(tmp_path / "a.pt"))
    assert f"its class is {__name__}.Scripted" in left.reason
    script(nn.ModuleDict({"a": nn.LSTM(3, 5), "b": nn.LSTM(3, 5, 2), "c": nn.LSTM(3, 5, 3)}), tmp_path / "b.pt")
    assert "___torch_mangle_" in (tmp_path / "b.pt").read_bytes().decode("latin1")  # equal class names are numbered
    assert [found.prefix for found in find_lstms(read_checkpoint(tmp_path / "b.pt"))] == ["a", "b", "c"]


def test_a_hook_may_change_what_is_computed(tmp_path):
    lstm = nn.LSTM(3, 5)
    lstm.register_forward_hook(print)
    torch.save(nn.ModuleList([lstm, nn.LSTM(3, 5)]), tmp_path / "a.pt")
    left, found = find_networks(read_checkpoint(tmp_path / "a.pt"))
    assert "its class is torch.nn.modules.rnn.LSTM with a hook" in left.reason
    assert found.prefix == "1"


def test_weight_norm_is_a_hook_that_is_folded(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        cell = torch.nn.utils.weight_norm(nn.LSTMCell(3, 5), "weight_hh")
    want = cell.weight_hh.detach().numpy()
    torch.save(nn.ModuleList([cell]), tmp_path / "a.pt")
    (found,) = find_lstms(read_checkpoint(tmp_path / "a.pt"))
    np.testing.assert_array_equal(found.params["weight_hh"], want)


def test_a_buffer_that_is_not_saved_is_no_part_of_a_module(tmp_path):
    cell = nn.LSTMCell(3, 5)
    cell.register_buffer("scratch", torch.ones(2), persistent=False)
    torch.save(nn.ModuleList([cell]), tmp_path / "a.pt")
    assert [found.prefix for found in find_lstms(read_checkpoint(tmp_path / "a.pt"))] == ["0"]


@dataclass(slots=True)
class Slots:
    weights: dict


class Pair:
    def __getstate__(self):
        return ("config", {"w": torch.ones(1)})


class Items(dict):
    """A dict whose items are attributes, as in EasyDict."""

    def __init__(self, **items):
        super().__init__(items)
        self.__dict__.update(items)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (Slots({"w": torch.ones(1)}), ["weights.w"]),
        (Pair(), ["w"]),
        (Items(w=torch.ones(1)), ["w"]),
        (OrderedDict({0: torch.ones(1), 1: torch.ones(1)}), ["0", "1"]),
        ([nn.Parameter(torch.ones(1)), {"deep": (torch.ones(1),)}], ["0", "1.deep.0"]),
    ],
)
def test_no_array_in_an_object_is_lost(content, names, protocol, tmp_path):
    torch.save(content, tmp_path / "a.pt", pickle_protocol=protocol)
    assert [name.removeprefix("state.1.") for name in read_checkpoint(tmp_path / "a.pt").arrays] == names


def test_what_python_2_wrote_is_read(tmp_path):
    """The file has an OrderedDict of pairs, a subclass of dict, and Parameter as torch pickled it before 0.4."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    array += b"(I1\n(I1\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntRI00\nS'\\x00\\x00\\x00@'\ntb"
    pairs = b"(lp0\n(lp1\nI7\na" + array + b"aa(lp2\nI8\na" + array + b"aa"
    (tmp_path / "a.pkl").write_bytes(b"ccollections\nOrderedDict\n(" + pairs + b"tR.")
    read = read_checkpoint(tmp_path / "a.pkl")
    assert list(read.arrays) == ["7", "8"]
    (tmp_path / "b.pkl").write_bytes(
        b"ccopy_reg\n_reconstructor\n(cmine\nDict\nc__builtin__\ndict\n(dS'w'\n" + array + b"stR."
    )
    assert list(read_checkpoint(tmp_path / "b.pkl").arrays) == ["w"]


def test_a_place_that_holds_itself_is_told_once(tmp_path):
    content: dict = {"w": torch.ones(1)}
    content["me"] = content
    content["slots"] = Slots({})
    torch.save(content, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").skipped == {f"{__name__}.Slots": "slots"}


def test_four_bit_tensors_are_skipped(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves quantized tensors to another package
        values = (torch.ones(3, 4), torch.ones(3), torch.zeros(3), 0, torch.quint4x2)
        torch.save({"q": torch.quantize_per_channel(*values), "w": torch.ones(2)}, tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt")
    assert list(read.arrays) == ["w"]
    assert read.skipped


def test_two_archives_one_after_the_other_are_refused(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save({name[0]: torch.ones(1)}, tmp_path / name)
    (tmp_path / "ab.pt").write_bytes((tmp_path / "a.pt").read_bytes() + (tmp_path / "b.pt").read_bytes())
    with pytest.raises(ValueError, match="does not begin with its first member"):
        read_checkpoint(tmp_path / "ab.pt")


@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
def test_a_quantized_module_that_was_saved_whole_is_read(dtype, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves quantization to another package
        plain = nn.ModuleDict({"lstm": nn.LSTM(3, 5), "cell": nn.LSTMCell(3, 5)}).eval()
        model = torch.ao.quantization.quantize_dynamic(plain, {nn.LSTM, nn.LSTMCell}, dtype=dtype)
        torch.save(model, tmp_path / "a.pt")
    found = find_lstms(read_checkpoint(tmp_path / "a.pt"))
    assert [(lstm.prefix, lstm.kind) for lstm in found] == [("lstm", "nn.LSTM"), ("cell", "nn.LSTMCell")]
    for lstm in found:
        for name, array in lstm.params.items():  # eight bits of a number below 1, or eleven
            np.testing.assert_allclose(array, plain[lstm.prefix].state_dict()[name].numpy(), atol=2**-8)
