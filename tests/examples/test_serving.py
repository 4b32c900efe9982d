"""examples/serving: a process without this package serves the trained model, with the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from examples.serving import train
from examples.serving.export import export_functions, write
from examples.serving.train import SERVER, main
from jax_lstm import LSTMState, linen
from tests.support import fresh_process
from tests.support.arrays import drawn_like, read_npz
from tests.support.example_commands import contents, refused_in_one_line

TINY = ["--hidden", 6, "--embedding", 3, "--batch", 2, "--length", 9, "--steps", 4, "--every", 2, "--served", 2]
MODEL = linen.SequenceModel(5, 3, 4, 5, num_layers=2)
PARAMS = drawn_like(jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, 2), np.int32))["params"])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "served"
    write(folder, MODEL, PARAMS, "?abcd")
    return folder


@pytest.fixture
def serve(tmp_path):
    """Return a function that runs the server in a separate process, and returns its exit code and output."""

    def serve_with(*arguments):
        words = [str(word) for word in arguments]
        answer, error = fresh_process.run(fresh_process.printed_by, str(SERVER), words, folder=tmp_path, environment={})
        assert not error, error
        return answer

    return serve_with


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a shared run: the first test trains, and the others continue after its last step."""
    return tmp_path_factory.mktemp("shared") / "run"


@pytest.mark.isa
def test_it_trains_exports_serves_and_agrees(command, text, run):
    code, shown, _ = command(main, *TINY, "--text", text, "--out", run)
    assert not code
    results = json.loads((run / "results.json").read_text())
    assert results["agrees"]
    assert results["same_bits"]
    assert 0 < results["limit"] < 1e-4
    assert "the same bits" in shown
    assert set(contents(run / "served")) == {
        "whole.jax", "step.jax", "weights.npz", "alphabet.json", "tokens.npy", "logits.npz",
    }  # fmt: skip
    weights = read_npz(run / "served" / "weights.npz")
    assert {"embedding.weight", "lstm.weight_hh_l1", "fc.bias"} < set(weights)
    logits = read_npz(run / "served" / "logits.npz")
    assert logits["logits"].shape == (2, 9, 6)  # the alphabet has a, b, c, d, the blank and UNKNOWN


def test_a_wrong_server_is_noticed(command, text, run, monkeypatch):
    """A server whose logits of a step come from the state of another step."""
    serve = train.serve

    def forgetful(folder, tokens):
        served = serve(folder, tokens)
        return served | {"logits": np.roll(served["logits"], 1, axis=1)}

    monkeypatch.setattr(train, "serve", forgetful)
    code, shown, _ = command(main, *TINY, "--text", text, "--out", run)
    assert code == 1
    assert "other bits" in shown
    assert not json.loads((run / "results.json").read_text())["agrees"]


def test_the_server_of_the_example_cannot_import_this_package(served):
    code = train.SERVE.format(blocked=train.BLOCKED, server=repr(str(SERVER)))
    for name in train.BLOCKED:
        with_import = code.replace("runpy.run_path", f"import {name}; runpy.run_path")
        done = subprocess.run([sys.executable, "-c", with_import, str(served)], capture_output=True, text=True)
        assert f"import of {name} halted" in done.stderr


@pytest.mark.slow
def test_a_stopped_run_continues_to_the_same_files(command, text, tmp_path):
    options = (*TINY, "--text", text, "--out")
    command(main, *options, tmp_path / "whole")
    assert command(main, *options, tmp_path / "killed", dies=True)[0] == "killed"
    assert not (tmp_path / "killed" / "served").exists()
    command(main, *options, tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.isa
@pytest.mark.parametrize("streams", [1, 3])
def test_an_exported_step_takes_any_batch_and_gives_the_bits_of_the_model(streams):
    weights = flatten_dict(PARAMS, sep=".")
    _, step = export_functions(MODEL, weights)
    assert step.platforms == ("cpu", "cuda", "tpu")
    loop = MODEL.clone(lstm_options={"backend": "scan"})  # what an exported program runs
    local_step = jax.jit(lambda v, token, s: loop.apply(v, token, s, method="step"))
    tokens = np.random.default_rng(0).integers(0, 5, (streams, 7), dtype=np.int32)
    h = c = np.zeros((2, streams, 4), np.float32)
    state = LSTMState(h=h, c=c)
    for t in range(7):
        logits, h, c = jax.jit(step.call)(weights, tokens[:, t], h, c)
        expected, state = local_step({"params": PARAMS}, tokens[:, t], state)
        np.testing.assert_array_equal(h, state.h)
        np.testing.assert_array_equal(c, state.c)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)  # float32, and two compilations of Dense


def test_the_server_continues_a_text(served, serve):
    code, text = serve(served, "--prompt", "abz", "--characters", 12, "--seed", 3)
    assert code == 0
    assert len(text) == 13
    assert set(text.strip()) <= set("abcd")
    assert serve(served, "--prompt", "abz", "--characters", 12, "--seed", 3)[1] == text


def test_the_server_refuses_wrong_input_with_one_line(served, serve, tmp_path):
    def tokens(name, array):
        np.save(tmp_path / name, array)
        return "--tokens", tmp_path / name, "--logits", tmp_path / "logits.npz"

    for arguments, words in (
        ((tmp_path / "none",), "not a folder that export.py wrote"),
        ((served, *tokens("a.npy", np.zeros((2, 3)))), "int32 [streams, steps] expected; got float64 (2, 3)"),
        ((served, *tokens("b.npy", np.zeros(3, np.int32))), "got int32 (3,)"),
        ((served, *tokens("c.npy", np.full((1, 2), 5, np.int32))), "tokens must lie between 0 and 4; got 5 to 5"),
        ((served, *tokens("d.npy", np.full((1, 2), -1, np.int32))), "got -1 to -1"),
        ((served, "--tokens", tmp_path / "none.npy"), "No such file"),
        ((served, "--prompt", ""), "--prompt must have at least one character"),
    ):
        code, output = serve(*arguments)
        assert (code, output.count("\n")) == (2, 1), output
        assert words in output
    assert not (tmp_path / "logits.npz").exists()
    assert sorted(contents(served)) == ["alphabet.json", "step.jax", "weights.npz", "whole.jax"]


@pytest.mark.parametrize("name", ["whole.jax", "step.jax", "weights.npz", "alphabet.json"])
def test_the_server_refuses_a_folder_with_a_damaged_file(served, serve, tmp_path, name):
    for file, content in contents(served).items():
        (tmp_path / file).write_bytes(content[: len(content) // 2] if file == name else content)
    code, output = serve(tmp_path)
    assert (code, output.count("\n")) == (2, 1), output
    assert "not a folder that export.py wrote" in output


def test_a_failed_export_leaves_no_partial_file(tmp_path, monkeypatch):
    write(tmp_path, MODEL, PARAMS, "?abcd")
    before = contents(tmp_path)

    def fails(handle, **arrays):
        handle.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fails)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, MODEL, PARAMS, "?abcd")
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert after["weights.npz"] == before["weights.npz"]


def test_wrong_input_is_refused(command, tmp_path, text):
    refused_in_one_line(command(main, "--text", tmp_path / "none"), "none: No such file")
    refused_in_one_line(command(main, "--hidden", 0), "--hidden")
    refused_in_one_line(command(main, "--served", 99, "--text", text, "--out", tmp_path / "r"), "too short")
    assert not (tmp_path / "r").exists()
