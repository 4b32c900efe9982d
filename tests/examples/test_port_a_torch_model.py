"""examples/port_a_torch_model: Adam's state is carried over, the losses agree, and a killed run continues."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import types

import jax
import numpy as np
import optax
import pytest
import torch

from examples.port_a_torch_model import in_torch, report, train
from examples.port_a_torch_model.train import carry_over, main, read
from examples.run import Refused
from jax_lstm import convert
from tests.support.example_commands import Killed, contents, refused_in_one_line

SMALL = ["--hidden", 5, "--embedding", 3, "--batch", 2, "--length", 8, "--torch-steps", 4, "--steps", 5, "--every", 2]
F64 = [*SMALL, "--dtype", "float64"]


def batch(n):
    return torch.from_numpy(np.random.default_rng(n).integers(256, size=(2, 6)))


def new_model():
    torch.manual_seed(0)
    model = in_torch.ByteModel(3, 4).double()
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def test_adam_carried_over_makes_the_steps_of_torch():
    model, adam = new_model()
    names = [name for name, _ in model.named_parameters()]
    for parameter in model.parameters():  # large first moments, so that a lost or misplaced one is noticed
        parameter.grad = torch.randn(parameter.shape, dtype=torch.float64)
    adam.step()
    params = convert.from_torch(model.state_dict())
    optimizer = optax.adam(1e-2)
    state = carry_over(adam.state_dict(), names, optimizer.init(params))
    update = jax.jit(lambda grads, state, params: optimizer.update(grads, state, params))
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, dtype=torch.float64)
        grads = convert.from_torch({name: p.grad for name, p in model.named_parameters()})
        adam.step()
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    expected = {name: p.detach().numpy() for name, p in model.named_parameters()}
    got = convert.to_torch(params)
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-12, atol=1e-15)


def test_torch_training_continues_from_its_file_to_the_same_losses(tmp_path):
    def dies(n):
        if n == 13:
            raise Killed
        return batch(n)

    whole = in_torch.train(*new_model(), batch, range(10, 15), tmp_path / "whole.pt", 2)
    with pytest.raises(Killed):
        in_torch.train(*new_model(), dies, range(10, 15), tmp_path / "killed.pt", 2)
    model, adam = new_model()
    assert in_torch.train(model, adam, batch, range(10, 15), tmp_path / "killed.pt", 2) == whole
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["killed.pt", "whole.pt"]
    again, _ = new_model()
    in_torch.train(again, adam, batch, range(10, 15), tmp_path / "whole.pt", 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.isa
def test_the_port_agrees_and_both_trainings_stay_together(command, tmp_path):
    code, out, _ = command(main, *F64, "--out", tmp_path / "run")
    assert code == 0, out
    assert "agree: 10 quantities in float64 and float32" in out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    difference = results["largest difference from torch"]
    assert difference[report.CARRIED] < 1e-13 < results["limit"] * 10  # eps is 2e-16
    assert difference[report.FRESH] > 1e-6
    bits = results["held-out bits per byte"]
    assert bits["at the port"]["torch"] == pytest.approx(bits["at the port"][report.CARRIED], rel=1e-13)
    assert bits["at the end"]["optax, back in torch"] == pytest.approx(bits["at the end"][report.CARRIED], rel=1e-13)
    assert bits["at the end"]["torch"] != bits["at the port"]["torch"]


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_files(command, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "cross_check", lambda *_: types.SimpleNamespace(ok=True))  # tested above
    for name, deaths in (("whole", [False]), ("killed", [True, False])):
        codes = [command(main, *F64, "--out", tmp_path / name, dies=dies)[0] for dies in deaths]
        assert codes == ["killed", 0][-len(deaths) :]
    whole, killed = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name] and not name.endswith(".pt")] == []
    assert {"trained.pt", "trained_on.pt", "trained_on.safetensors", "curve.png"} <= whole.keys()


def test_a_port_that_disagrees_is_not_trained_on(command, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "cross_check", lambda *_: types.SimpleNamespace(ok=False))
    assert command(main, *F64, "--out", tmp_path / "run")[0] == 1
    assert not (tmp_path / "run" / "trained_on.pt").exists()


def test_losses_that_diverge_are_over_the_limit():
    rows = [{"torch": 2.0, report.CARRIED: 2.0, report.ROUNDED: 2.0 + 1e-9, report.FRESH: 2.1} for _ in range(3)]
    difference, limit = report.judge(rows, 1e-16)
    assert difference[report.CARRIED] <= limit < difference[report.FRESH]
    rows[1][report.CARRIED] = rows[1][report.ROUNDED] = 2.0 + 1e-6
    difference, limit = report.judge(rows, 1e-16)
    assert difference[report.CARRIED] > limit


def test_what_is_held_out_is_not_trained_on(tmp_path):
    file = tmp_path / "text"
    file.write_bytes(bytes(range(100)))
    data, held_out = read(file, 4)
    assert data.tolist() == list(range(90))
    assert held_out.tolist() == [list(range(90, 95)), list(range(95, 100))]
    with pytest.raises(Refused, match="100 bytes; --length 10 needs 110"):
        read(file, 10)
    assert len(read(None, 50)[0]) > 400_000


def test_wrong_input_is_refused(command, tmp_path):
    (tmp_path / "short").write_text("short")
    refused_in_one_line(command(main, "--text", tmp_path / "none"), "--text", "does not exist")
    refused_in_one_line(command(main, "--text", tmp_path), "--text", "is a directory")
    refused_in_one_line(command(main, "--text", tmp_path / "short"), "5 bytes", "--length 50")
    refused_in_one_line(command(main, "--length", 0), "--length")
    refused_in_one_line(command(main, "--torch-steps", 0), "--torch-steps")
    refused_in_one_line(command(main, "--out", tmp_path / "short" / "run"), "--out", "write to")
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.json").write_text('{"example": "port_a_torch_model", "hidden": 7}')
    refused_in_one_line(command(main, "--out", other), "hidden 7 there, 64 here")
    assert [file.name for file in other.iterdir()] == ["settings.json"]
