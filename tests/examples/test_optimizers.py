"""The examples run with any optimizer of optax, and all of them call the learning rate by one name."""

from __future__ import annotations

import importlib
import inspect

import jax
import numpy as np
import optax
import pytest

from tests.support.requirements import need

need("torch")  # one of the examples starts from a torch model

from examples.many_devices import worker
from examples.port_a_torch_model.train import ANEW, CARRIED, ROUNDED, make_step
from examples.run import Run
from jax_lstm import linen
from tests import ROOT
from tests.support.example_commands import command  # noqa: F401

EXAMPLES = ROOT / "examples"
NAMES = sorted(file.parent.name for file in EXAMPLES.glob("*/train.py"))
# The options that make a run of one step short. The two examples that are not here have a test of their own below.
SHORT = {
    "adding_problem": ["--lag", 2, "--hidden", 2, "--batch", 2, "--model", "lstm"],
    "char_lm": ["--hidden", 2, "--embedding", 2, "--batch", 2, "--length", 5, "--sample", 1],
    "copy_memory": ["--lag", 2, "--hidden", 2, "--batch", 2, "--model", "lstm"],
    "sequence_classification": ["--hidden", 2, "--batch", 2],
    "serving": ["--hidden", 2, "--embedding", 2, "--layers", 1, "--batch", 2, "--length", 5],
}


@pytest.fixture
def with_adamw(monkeypatch):
    """Puts optax.adamw, whose update needs the parameters, in the place of optax.adam."""
    made = []

    def adamw(learning_rate):
        made.append(learning_rate)
        return optax.adamw(learning_rate, weight_decay=0.1)

    monkeypatch.setattr(optax, "adam", adamw)
    return made


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text"
    file.write_text("abcd abdc " * 60)
    return file


@pytest.mark.parametrize("name", SHORT)
def test_an_example_trains_a_step_with_adamw(command, with_adamw, monkeypatch, text, tmp_path, name):  # noqa: F811
    train = importlib.import_module(f"examples.{name}.train")
    if name == "sequence_classification":
        monkeypatch.setattr(train, "READERS", {"rows": train.READERS["rows"]})  # to save time
        monkeypatch.setattr(train, "BASELINES", {})
    if name == "serving":  # the export is not what is tested here
        monkeypatch.setattr(train, "write", lambda *_: None)
        monkeypatch.setattr(train, "serve", lambda *_: None)
        monkeypatch.setattr(train, "compare", lambda *_: ({"the model, its weights moved by a rounding": 1.0}, True))
    options = [*SHORT[name], "--steps", 1, "--every", 1, "--out", tmp_path / "run"]
    takes_text = "text" in inspect.signature(train.main).parameters
    code, _, told = command(train.main, *options, *(["--text", text] if takes_text else []))
    assert not code, told
    assert len(with_adamw) == 1


def test_the_port_trains_a_step_with_adamw():
    model, optimizer = linen.SequenceModel(5, 2, 2, 5), optax.adamw(0.1)
    tokens = np.zeros((2, 4), np.int64)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    _, step = make_step(model, optimizer, seed=0)
    states = {name: (params, optimizer.init(params)) for name in (CARRIED, ROUNDED, ANEW)}
    _, losses = step(jax.tree.map(jax.numpy.copy, states), tokens, 0)
    assert losses[CARRIED] == losses[ANEW]


def test_many_devices_train_a_step_with_adamw(with_adamw, tmp_path):
    options = {"way": "one", "rounded": False, "hidden": 2, "batch": 8, "length": 4, "learning_rate": 0.1}
    options |= {"dtype": "float32", "seed": 0}
    run = Run(tmp_path / "run", options)
    worker.train(run, 1, 1, **options)
    assert [row["step"] for row in run.metrics()] == [1]
    assert with_adamw == [0.1]


@pytest.mark.parametrize("name", NAMES)
def test_the_learning_rate_has_one_name(name):
    """The two studies of an RNN beside an LSTM have one for each."""
    main = importlib.import_module(f"examples.{name}.train").main
    rates = [option for option in inspect.signature(main).parameters if option.endswith(("rate", "lr"))]
    study = name in ("adding_problem", "copy_memory")
    assert rates == (["rnn_learning_rate", "lstm_learning_rate"] if study else ["learning_rate"])
    readme = (EXAMPLES / name / "README.md").read_text()
    for option in rates:
        assert f"`--{option.replace('_', '-')}`" in readme


def test_every_example_is_tried_with_adamw():
    assert set(NAMES) == {*SHORT, "port_a_torch_model", "many_devices"}
