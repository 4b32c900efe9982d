"""``crosscheck train``: tables, JSON, page, exit codes, and one line for a training that cannot run."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import re
import signal
import sys

import pytest
from typer.testing import CliRunner

from crosscheck.__main__ import main
from crosscheck.commands import cli
from crosscheck.studies.training import in_jax as run_in_jax
from crosscheck.studies.training.optimizers import OPTIMIZERS

SMALL = ("train", "--steps", "3", "--hidden", "8", "--batch", "2", "--length", "6")


def run(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the quick brown fox jumps over the lazy dog, " * 40, encoding="utf-8")
    return file


def test_agreement_with_json_and_page(text, tmp_path):
    file, folder = tmp_path / "out.json", tmp_path / "page"
    result = run(*SMALL, "--text", text, "--clip", "0.5", "--json", file, "--report", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith("float64 agree, float32 agree: agree")
    assert "clipping: torch scales by" in result.stdout
    assert "bias correction" in result.stdout
    assert "after 3 steps the float32 parameters of the two differ by" in result.stdout
    content = json.loads(file.read_text())
    assert (content["ok"], content["verdict"]) == (True, "agree")
    assert [case["name"] for case in content["cases"]] == ["train float64", "train float32"]
    assert {"check", "quantity", "error", "limit", "verdict", "ok"} <= content["cases"][0]["findings"][0].keys()
    losses = content["training"]["float64"]["loss"]
    assert len(losses["torch"]) == len(losses["jax float64"]) == 3
    assert losses["torch"] == pytest.approx(losses["jax float64"], rel=1e-13)
    assert losses["torch"][0] != losses["torch"][1]
    assert len(content["training"]["float32"]["parameter_difference"]) == 3
    assert list(content["training"]["float64"]["validation_loss"]["torch"]) == ["1", "2", "3"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    for words in ("Both losses", "float64 1-step", "held out", "eps: outside the root", "training step"):
        assert words in page
    judged = [f for case in content["cases"] for f in case["findings"] if f["quantity"] != "validation loss"]
    nearest = max(judged, key=lambda f: f["error"] / f["limit"])["quantity"]
    curves = re.findall(r'<details( open)?>\s*<summary><span class="name">(.*), error against step<', page)
    assert [name for opened, name in curves if opened] == [nearest]
    assert {name for _, name in curves} >= {"loss", "gradient norm", nearest}
    assert len(curves) == 4
    assert str(text) in content["cases"][0]["reproduce"]


def test_the_command_that_it_names_gives_the_same_again(text, tmp_path):
    contents = []
    for n in range(2):
        file = tmp_path / f"{n}.json"
        arguments = contents[0]["cases"][0]["reproduce"].split()[1:] if contents else [*SMALL, "--text", str(text)]
        assert run(*arguments, "--optimizer", "momentum", "--dtype", "float64", "--json", file).exit_code == 0
        contents.append(json.loads(file.read_text()))
    for content in contents:
        for case in content["cases"]:
            case["seconds"] = 0
    assert contents[0] == contents[1]


def test_another_algorithm_exits_1_and_is_named(text, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "adamw", wrong := OPTIMIZERS["adamw"].__class__(**vars(OPTIMIZERS["adamw"])))
    object.__setattr__(wrong, "optax", lambda rate: run_in_jax.optax.adamw(rate))
    result = run(*SMALL, "--text", text, "--optimizer", "adamw", "--dtype", "float64")
    assert result.exit_code == 1
    assert result.stdout.rstrip().endswith(": disagree")
    assert "first training step that differs: 1" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimizer", "lion"], "'lion' is not one of 'sgd', 'momentum', 'adam', 'adamw', 'rmsprop'"),
        (["--dtype", "int8"], "'int8' is not one of 'float64', 'float32', 'both'"),
        (["--clip", "0"], "--clip must be a number over 0"),
        (["--learning-rate", "nan"], "--learning-rate must be a number over 0"),
        (["--text", "nowhere.txt"], "--text nowhere.txt: No such file"),
        (["--length", "5000000"], "is too long for Python's documentation"),
        (["--report", "pyproject.toml"], "--report pyproject.toml"),
        (["--json", "nowhere/out.json"], "--json nowhere/out.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words):
    result = run("train", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_wrong_usage_is_one_line_too(monkeypatch, capfd):
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # main's signal handlers need a separate process
    monkeypatch.setattr("crosscheck.commands.interrupts.end_on_signals", lambda: None)
    for arguments, words in ((["--steps", "0"], "'--steps'"), (["--length", "-3"], "'--length'"), (["--no"], "--no")):
        monkeypatch.setattr(sys, "argv", ["crosscheck", "train", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        assert (left.value.code, out) == (2, "")
        assert words in err
        assert len(err.splitlines()) == 1


def test_texts_that_cannot_be_used(tmp_path):
    short, binary, empty = (tmp_path / name for name in ("short", "binary", "empty"))
    short.write_text("abc")
    binary.write_bytes(b"\xff\xfe\x00")
    empty.write_text("")
    for file, words in ((short, "is too long for"), (binary, "not UTF-8"), (empty, "empty"), (tmp_path, "directory")):
        result = run(*SMALL, "--text", file)
        assert result.exit_code == 2
        assert words in result.stderr
    assert sorted(tmp_path.iterdir()) == sorted((short, binary, empty))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_hundred_steps_agree(optimizer):
    result = run("train", "--steps", "300", "--dtype", "float64", "--optimizer", optimizer)
    assert result.exit_code == 0
    assert "inconclusive" not in result.stdout
