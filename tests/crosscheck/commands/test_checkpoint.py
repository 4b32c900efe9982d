"""`crosscheck checkpoint`: its verdict on real weights, its export for Flax, and its message if it cannot run."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import argparse
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file
from typer.testing import CliRunner

from crosscheck.commands import checkpoint as command
from crosscheck.commands import cli
from crosscheck.core.finding import FLOAT64, CouldNotRun, Finding, Outcome
from crosscheck.core.verdict import Verdict
from crosscheck.studies.checkpoint import CannotExport, export, find_lstms
from crosscheck.suite import runs as suite
from crosscheck.suite.runs import CaseResult
from jax_lstm import LSTMState, linen
from tests.support import wrong_ports


class Model(torch.nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = torch.nn.LSTM(3, 5, bidirectional=True, proj_size=4, batch_first=True, dtype=dtype)
        self.cell = torch.nn.LSTMCell(4, 6, bias=False, dtype=dtype)
        self.head = torch.nn.Linear(6, 2, dtype=dtype)


def run(*arguments):
    return CliRunner().invoke(cli.app, ["checkpoint", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    """Return a checkpoint in its own folder, so a test sees every file that a command writes there."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "model.pt"
    torch.save({"model": Model().state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def judged(monkeypatch):
    """Replace the cross-check, which takes seconds, in tests of the later steps."""

    def judge(outcome=Outcome.AGREE):
        finding = Finding("y", FLOAT64, outcome, 1e-16, 1e-15)
        monkeypatch.setattr(
            command,
            "run_case",
            lambda case, reproduce: [CaseResult(case.name, "jax_lstm", Outcome.AGREE, Verdict((finding,)), 0.0)],
        )

    return judge


def test_every_lstm_is_listed_checked_and_exported(file, tmp_path):
    out, results = tmp_path / "out", tmp_path / "results.json"
    result = run(file, "--export", out, "--json", results)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    row = next(line.split() for line in lines if line.startswith("model.encoder"))
    assert row[1:9] == ["nn.LSTM", "3", "5", "4", "1", "2", "yes", "float32"]
    assert "[20, 3]" in " ".join(row)
    row = next(line.split() for line in lines if line.startswith("model.cell"))
    assert row[1:9] == ["nn.LSTMCell", "4", "6", "-", "1", "1", "no", "float32"]
    assert sum(line.startswith(("model.encoder  agree", "model.cell     agree")) for line in lines) == 2
    assert "2 LSTMs, as params.safetensors and orbax/; their verdict is agree" in result.stdout
    assert lines[-1].endswith(": agree")
    content = json.loads(results.read_text())
    assert (content["ok"], content["verdict"], {c["name"] for c in content["cases"]}) == (
        True,
        "agree",
        {"model.encoder", "model.cell"},
    )
    first = content["checkpoint"]["lstms"][0]
    assert (first["prefix"], first["proj_size"], first["bidirectional"]) == ("model.encoder", 4, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "results.json"]
    assert sorted(p.name for p in out.iterdir()) == ["orbax", "params.safetensors"]


def test_a_disagreement_exits_1_and_the_export_says_so(file, tmp_path, monkeypatch):
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", wrong_ports.STANDARD["gate order"])
    result = run(file, "--prefix", "model.cell", "--export", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert "their verdict is disagree" in result.stdout
    assert result.stdout.rstrip().endswith("disagree")
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_both_exports_are_lossless_and_compute_what_torch_computes(dtype, tmp_path):
    model = Model(dtype)
    exact = jnp.bfloat16 if dtype is torch.bfloat16 else np.float64
    arrays = {
        f"net.{name}": np.asfortranarray(tensor.double().numpy().astype(exact))  # strides that no format stores
        for name, tensor in model.state_dict().items()
    }
    export(find_lstms(arrays), tmp_path / "out")
    flat = load_file(tmp_path / "out" / "params.safetensors")
    assert set(flat) == {name for name in arrays if "head" not in name}
    for name, array in flat.items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(tmp_path / "out" / "orbax")
    restored = flatten_dict(tree, sep=".")
    assert set(restored) == set(flat)
    for name, array in restored.items():
        assert array.dtype == flat[name].dtype
        np.testing.assert_array_equal(array, flat[name])
    for params in (tree["net"], unflatten_dict(flat, sep=".")["net"]):
        same_function(model.double(), jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params))


def same_function(model, params):
    rng = np.random.default_rng(0)
    x, h, c = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 2, 4)), rng.normal(size=(2, 2, 5))
    lstm = linen.LSTM(5, bidirectional=True, proj_size=4, param_dtype=jnp.float64)
    y, last = jax.jit(lstm.apply)({"params": params["encoder"]}, x, LSTMState(h, c))
    want, (h_n, c_n) = model.encoder(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    cell = linen.LSTMCell(hidden_size=6, bias=False, param_dtype=jnp.float64)
    carry = LSTMState(rng.normal(size=(2, 6)), rng.normal(size=(2, 6)))
    step = rng.normal(size=(2, 4))
    got, _ = jax.jit(cell.apply)({"params": params["cell"]}, carry, step)
    h_1, c_1 = model.cell(torch.tensor(step), (torch.tensor(carry.h), torch.tensor(carry.c)))
    for ours, theirs in ((y, want), (last.h, h_n), (last.c, c_n), (got.h, h_1), (got.c, c_1)):
        # a few float64 roundings over 7 steps; any wrong weight exceeds it by decades
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-12, atol=1e-14)


def weights(prefix=""):
    return {prefix + n: t.numpy() for n, t in torch.nn.LSTM(2, 3).state_dict().items()}


def test_an_export_is_whole_or_not_there(tmp_path, monkeypatch, caplog):
    found = find_lstms(weights("a."))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(CannotExport, match="exists already"):
        export(found, out)
    out.rmdir()
    out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CannotExport, match="exists already"):
        export(found, out)
    out.unlink()
    with pytest.raises(CannotExport, match="there is no folder"):
        export(found, tmp_path / "none" / "out")

    def full(self, folder, tree):
        assert not out.exists()
        (folder / "half").mkdir(parents=True)
        logging.getLogger("absl").error("a traceback, as orbax logs it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        export(found, out)
    assert list(tmp_path.iterdir()) == []
    assert not caplog.records  # the user sees it only once


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([weights("a.") | weights("a_")], "two LSTMs have an entry 'a.weight_ih_l0'"),
        ([weights(""), weights("weight_hh_l0.")], "'weight_hh_l0' is an array and has"),
        ([weights("a..b.")], "no valid path"),
        ([weights("a\ud800.")], "no valid path"),
    ],
)
def test_names_that_no_tree_can_hold_are_refused(arrays, words, tmp_path):
    with pytest.raises(CannotExport, match=words):
        export([lstm for part in arrays for lstm in find_lstms(part)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_was_folded_and_what_was_not_made_is_told(tmp_path, judged):
    judged()
    module = torch.nn.ModuleDict({"cell": torch.nn.LSTMCell(3, 5), "lstm": torch.nn.LSTM(2, 3)})
    torch.nn.utils.parametrizations.weight_norm(module["cell"], "weight_hh")
    torch.save({"model": module.state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    result = run(tmp_path / "a.pt", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    note = "weight_hh is computed from original0 and original1 as weight_norm does"
    assert f"as read: model.cell: {note}\n" in result.stdout
    assert "not made: argparse.Namespace at args\n" in result.stdout
    content = json.loads((tmp_path / "out.json").read_text())["checkpoint"]
    assert {lstm["prefix"]: lstm["notes"] for lstm in content["lstms"]} == {
        "model.cell": [note],
        "model.lstm": [],
    }
    assert content["not_made"] == {"argparse.Namespace": "args"}


def test_a_cell_with_more_beside_it_is_named_in_the_verdict(tmp_path, judged):
    judged()
    more = {"cell.ln_ih.weight": torch.ones(20)} | torch.nn.ModuleDict({"cell": torch.nn.LSTMCell(3, 5)}).state_dict()
    torch.save(more | {f"lstm.{n}": a for n, a in torch.nn.LSTM(2, 3).state_dict().items()}, tmp_path / "a.pt")
    result = run(tmp_path / "a.pt", "--export", tmp_path / "out")
    assert result.exit_code == 1
    assert "not checked: cell (nn.LSTMCell): this is no plain nn.LSTMCell: under the same prefix lie" in result.stdout
    assert result.stdout.rstrip().endswith("; but not every LSTM could be checked: cell")
    assert not any(name.startswith("cell") for name in load_file(tmp_path / "out" / "params.safetensors"))


def test_without_an_lstm_it_is_said_what_was_not_made(tmp_path):
    torch.save({"w": torch.ones(3, device="meta"), "args": argparse.Namespace()}, tmp_path / "a.pt")
    result = run(tmp_path / "a.pt")
    assert result.exit_code == 2
    assert (
        "no LSTM in it; found instead: no arrays at all; not made: torch._utils._rebuild_meta_tensor" in result.stderr
    )


def test_a_prefix_chooses(file, judged):
    judged()
    result = run(file, "--prefix", "model.cell.")
    assert result.exit_code == 0
    assert "model.encoder" not in result.stdout
    result = run(file, "--prefix", "model.enc")
    assert result.exit_code == 2
    assert result.stderr == (
        "crosscheck: --prefix model.enc: there is no LSTM at or below it; known prefixes: model.encoder, model.cell\n"
    )


def test_an_lstm_that_cannot_be_checked_is_no_agreement(tmp_path, judged):
    judged()
    bad = weights("bad.")
    bad["bad.bias_ih_l0"][2] = np.nan
    gru = {f"gru.{n}": t.numpy() for n, t in torch.nn.GRU(2, 3).state_dict().items()}
    np.savez(tmp_path / "gru.npz", **weights("good."), **gru)
    result = run(tmp_path / "gru.npz")
    assert result.exit_code == 0
    assert "not checked: gru (nn.GRU): only LSTMs are checked here" in result.stdout
    np.savez(tmp_path / "bad.npz", **weights("good."), **bad)
    result = run(tmp_path / "bad.npz", "--json", tmp_path / "out.json", "--export", tmp_path / "out")
    assert result.exit_code == 1
    assert "not checked: bad (nn.LSTM): NaN or inf in 'bias_ih_l0' (1 of 12)" in result.stdout
    assert result.stdout.rstrip().endswith("; but not every LSTM could be checked: bad")
    assert json.loads((tmp_path / "out.json").read_text())["ok"] is False
    assert set(load_file(tmp_path / "out" / "params.safetensors")) == set(weights("good."))
    result = run(tmp_path / "bad.npz", "--prefix", "bad")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no LSTM that can be checked. nn.LSTM at 'bad': NaN or inf" in result.stderr


def test_what_cannot_run_exits_2_with_one_line_and_writes_nothing(file, tmp_path, judged, monkeypatch):
    judged()
    (tmp_path / "in" / "bad.pt").write_bytes(b"?")
    np.savez(tmp_path / "in" / "none.npz", conv=np.ones((2, 3)))
    np.savez(tmp_path / "in" / "empty.npz")
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    folder, out, results = tmp_path / "in", tmp_path / "out", tmp_path / "results.json"
    for path, export_to, json_file, words in (
        (folder / "bad.pt", out, results, "bad.pt: its format is not known here"),
        (folder / "none.npz", out, results, "none.npz: no LSTM in it; found instead: conv [2, 3]"),
        (folder / "empty.npz", out, results, "empty.npz: no LSTM in it; found instead: no arrays at all"),
        (folder / "nothing.pt", out, results, "nothing.pt: there is no such file"),
        (file, out, file, "that is the checkpoint itself"),
        (file, folder, results, "in: it exists already"),
        (file, out, out, "Is a directory"),  # the export is already written
    ):
        check_refused(run(path, "--export", export_to, "--json", json_file), words)
    with monkeypatch.context() as patch:
        patch.setattr(command, "export", raising(OSError(28, "No space left on device")))
        check_refused(run(file, "--export", out, "--json", results), "No space left on device")
    monkeypatch.setattr(command, "run_case", raising(CouldNotRun("the carry is fixed")))
    check_refused(run(file, "--export", out, "--json", results), "crosscheck: the carry is fixed")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def raising(error):
    def refuse(*arguments):
        raise error

    return refuse


def check_refused(result, words):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert words in result.stderr.splitlines()[-1]
    assert result.stderr.count("crosscheck: ") == 1
