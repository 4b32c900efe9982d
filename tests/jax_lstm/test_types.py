"""What a user sees of the types: a script that is checked, signatures by name, and options with few values once."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from importlib.metadata import PackageNotFoundError, version

import jax
import numpy as np
import pytest

import jax_lstm
from jax_lstm._src import backends, elman, init, options
from jax_lstm.convert import flax_nnx
from tests import ROOT
from tests.support import typed_user


def run_alone(code):
    """Standard output of a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_script_that_make_lint_checks_runs(capsys):
    typed_user.main()
    shown = capsys.readouterr().out
    assert "['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']" in shown


def test_flax_modules_are_attributes_and_flax_waits_for_them():
    code = """
import sys, jax_lstm
early = sorted({name.partition(".")[0] for name in sys.modules} & {"flax", "torch", "optax"})
print(early, {"linen", "nnx", "lstm"} <= set(dir(jax_lstm)), jax_lstm.linen.LSTM.__name__, jax_lstm.nnx.LSTM.__name__)
"""
    assert run_alone(code) == "[] True LSTM LSTM"
    with pytest.raises(AttributeError, match="module 'jax_lstm' has no attribute 'keras'"):
        jax_lstm.keras  # noqa: B018


@pytest.mark.parametrize("name", ["jax_lstm", "torch_ref", "crosscheck"])
def test_a_package_says_its_version(name):
    package = pytest.importorskip(name, reason=f"{name} needs torch")
    try:
        installed = version("jax-lstm")
    except PackageNotFoundError:
        installed = "0+unknown"
    assert package.__version__ == installed
    code = f"""
import importlib.metadata, jax
def nowhere(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = nowhere
import {name}
print({name}.__version__)
"""
    assert run_alone(code) == "0+unknown"


KEYWORDS = [p for p in inspect.signature(jax_lstm.lstm).parameters.values() if p.kind is p.KEYWORD_ONLY]


@pytest.mark.parametrize("name", ["lstm_states", "choose_backend", "rnn"])
def test_a_signature_has_the_options_of_lstm_by_name(name):
    signature = inspect.signature(getattr(jax_lstm, name))
    own = {"nonlinearity"} if name == "rnn" else set()
    shown = {p.name: p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in own}
    assert list(shown) == [p.name for p in KEYWORDS]
    assert [p.default for p in shown.values()] == [p.default for p in KEYWORDS]
    assert [p.annotation for p in shown.values()] == [p.annotation for p in KEYWORDS]
    assert signature.return_annotation != signature.empty
    assert not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    assert own <= set(signature.parameters)


def test_the_types_of_the_options_are_those_of_lstm():
    assert list(typing.get_type_hints(options.OptionArguments)) == [p.name for p in KEYWORDS]
    hints = typing.get_type_hints(jax_lstm.lstm)
    for name, hint in typing.get_type_hints(options.OptionArguments).items():
        assert hint == hints[name], name


@pytest.mark.parametrize(
    ("alias", "values"),
    [
        (options.Backend, options.BACKENDS),
        (options.Residuals, options.RESIDUALS),
        (init.Style, tuple(init.STYLES)),
        (elman.Nonlinearity, tuple(elman.NONLINEARITIES)),
        (flax_nnx.CellName, flax_nnx.CELLS),
    ],
)
def test_a_type_has_the_values_that_are_accepted(alias, values):
    assert typing.get_args(alias) == values


def test_a_backend_that_is_chosen_is_one_that_can_be_asked_for():
    chosen = typing.get_type_hints(backends.BackendChoice)["backend"]
    assert set(typing.get_args(chosen)) == set(options.BACKENDS) - {"auto"}


def test_a_state_is_made_of_anything_that_a_tree_can_hold():
    state = jax_lstm.LSTMState(h=np.ones(2), c=None)
    assert jax.tree.map(lambda a: a + 1, state).h.tolist() == [2, 2]
    axes = jax_lstm.LSTMState(h=1, c=1)
    given = jax_lstm.LSTMState(h=np.ones((1, 3, 5)), c=np.ones((1, 3, 5)))
    assert jax.vmap(lambda s: s.h, in_axes=(axes,))(given).shape == (3, 1, 5)
