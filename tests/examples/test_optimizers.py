"""The examples run with any optimizer of optax, and all of them use one name for the learning rate."""

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
from examples.port_a_torch_model.train import CARRIED, FRESH, ROUNDED, make_step
from examples.run import Run
from jax_lstm import linen
from tests import ROOT

EXAMPLES = ROOT / "examples"
PLAIN = "plain_training"  # it has no options
NAMES = sorted({file.parent.name for file in EXAMPLES.glob("*/train.py")} - {PLAIN})
# Options that make a run of one step short. The two examples that are missing here have separate tests below.
SHORT = {
    "adding_problem": ["--lag", 2, "--hidden", 2, "--batch", 2, "--model", "lstm"],
    "char_lm": ["--hidden", 2, "--embedding", 2, "--batch", 2, "--length", 5, "--sample", 1],
    "copy_memory": ["--lag", 2, "--hidden", 2, "--batch", 2, "--model", "lstm"],
    "sequence_classification": ["--hidden", 2, "--batch", 2],
    "serving": ["--hidden", 2, "--embedding", 2, "--layers", 1, "--batch", 2, "--length", 5],
}


@pytest.fixture
def with_adamw(monkeypatch):
    """Replace optax.adam by optax.adamw, whose update needs the parameters. Return the list of its learning rates."""
    rates = []

    def adamw(learning_rate):
        rates.append(learning_rate)
        return optax.adamw(learning_rate, weight_decay=0.1)

    monkeypatch.setattr(optax, "adam", adamw)
    return rates


@pytest.mark.parametrize("name", SHORT)
def test_an_example_trains_a_step_with_adamw(command, with_adamw, monkeypatch, text, tmp_path, name):
    train = importlib.import_module(f"examples.{name}.train")
    if name == "sequence_classification":
        monkeypatch.setattr(train, "READERS", {"rows": train.READERS["rows"]})  # to save time
        monkeypatch.setattr(train, "BASELINES", {})
    if name == "serving":  # this test is not about the export
        monkeypatch.setattr(train, "write", lambda *_: None)
        monkeypatch.setattr(train, "serve", lambda *_: None)
        monkeypatch.setattr(train, "compare", lambda *_: ({train.ROUNDED: 1.0}, True))
    options = [*SHORT[name], "--steps", 1, "--every", 1, "--out", tmp_path / "run"]
    takes_text = "text" in inspect.signature(train.main).parameters
    code, _, errors = command(train.main, *options, *(["--text", text] if takes_text else []))
    assert not code, errors
    assert len(with_adamw) == 1


def test_the_port_trains_a_step_with_adamw():
    model, optimizer = linen.SequenceModel(5, 2, 2, 5), optax.adamw(0.1)
    tokens = np.zeros((2, 4), np.int64)
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    _, step = make_step(model, optimizer, seed=0)
    states = {name: (params, optimizer.init(params)) for name in (CARRIED, ROUNDED, FRESH)}
    _, losses = step(jax.tree.map(jax.numpy.copy, states), tokens, 0)
    assert losses[CARRIED] == losses[FRESH]


def test_plain_training_runs_with_adamw(with_adamw):
    main = importlib.import_module(f"examples.{PLAIN}.train").main
    assert 0 < main(epochs=1) < 1
    assert len(with_adamw) == 1


def test_many_devices_train_a_step_with_adamw(with_adamw, tmp_path):
    options = {"way": "one", "rounded": False, "hidden": 2, "batch": 8, "length": 4, "learning_rate": 0.1}
    options |= {"dtype": "float32", "seed": 0}
    run = Run(tmp_path / "run", options)
    worker.train(run, 1, 1, **options)
    assert [row["step"] for row in run.metrics()] == [1]
    assert with_adamw == [0.1]


@pytest.mark.parametrize("name", NAMES)
def test_the_learning_rate_has_one_name(name):
    """The two studies of an RNN and an LSTM have one learning rate per model."""
    main = importlib.import_module(f"examples.{name}.train").main
    rates = [option for option in inspect.signature(main).parameters if option.endswith(("rate", "lr"))]
    study = name in ("adding_problem", "copy_memory")
    assert rates == (["rnn_learning_rate", "lstm_learning_rate"] if study else ["learning_rate"])
    readme = (EXAMPLES / name / "README.md").read_text()
    for option in rates:
        assert f"`--{option.replace('_', '-')}`" in readme


def test_every_example_is_tested_with_adamw():
    assert set(NAMES) == {*SHORT, "port_a_torch_model", "many_devices"}
