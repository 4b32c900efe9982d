"""Types for users: a script for the type checkers, signatures with named options, and aliases of option values."""

from __future__ import annotations

import dataclasses
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
from tests.support import fresh_process, typed_user, uninstalled


def test_the_script_that_make_lint_checks_runs(capsys):
    typed_user.main()
    shown = capsys.readouterr().out
    assert "['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']" in shown


def test_flax_is_imported_only_when_its_modules_are_used():
    code = """
import sys, jax_lstm
early = sorted({name.partition(".")[0] for name in sys.modules} & {"flax", "torch", "optax"})
print(early, {"linen", "nnx", "lstm"} <= set(dir(jax_lstm)), jax_lstm.linen.LSTM.__name__, jax_lstm.nnx.LSTM.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[] True LSTM LSTM\n", done.stderr
    with pytest.raises(AttributeError, match="module 'jax_lstm' has no attribute 'keras'"):
        jax_lstm.keras  # noqa: B018


@pytest.mark.parametrize("name", ["jax_lstm", "torch_ref", "crosscheck"])
def test_a_package_has_its_version(name, tmp_path):
    package = pytest.importorskip(name, reason=f"{name} needs torch")
    try:
        installed = version("jax-lstm")
    except PackageNotFoundError:
        installed = "0+unknown"
    assert package.__version__ == installed
    versions, error = fresh_process.run(uninstalled.versions, [name], folder=tmp_path, environment={})
    assert versions == {name: "0+unknown"}, error


KEYWORDS = [p for p in inspect.signature(jax_lstm.lstm).parameters.values() if p.kind is p.KEYWORD_ONLY]


@pytest.mark.parametrize("name", ["lstm_states", "choose_backend", "rnn"])
def test_a_signature_names_the_options_of_lstm(name):
    signature = inspect.signature(getattr(jax_lstm, name))
    extra = {"nonlinearity"} if name == "rnn" else set()
    shared = {p.name: p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in extra}
    assert list(shared) == [p.name for p in KEYWORDS]
    assert [p.default for p in shared.values()] == [p.default for p in KEYWORDS]
    assert [p.annotation for p in shared.values()] == [p.annotation for p in KEYWORDS]
    assert signature.return_annotation != signature.empty
    assert not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    assert extra <= set(signature.parameters)


def test_the_types_of_the_options_agree_with_lstm():
    assert list(typing.get_type_hints(options.OptionArguments)) == [p.name for p in KEYWORDS]
    hints = typing.get_type_hints(jax_lstm.lstm)
    for name, hint in typing.get_type_hints(options.OptionArguments).items():
        assert hint == hints[name], name


@pytest.mark.parametrize("module", [jax_lstm.linen.LSTM, jax_lstm.nnx.LSTM])
def test_an_option_of_a_flax_module_has_the_type_and_default_of_lstm(module):
    """Options that are arrays, such as `lengths`, belong to a call. The module has all other options."""
    shown = inspect.signature(module).parameters
    assert set(options.options_of_module(options.Options())) <= set(shown)
    shared = [field for field in dataclasses.fields(options.Options) if field.name in shown]
    assert [(f.name, f.default) for f in shared] == [(f.name, shown[f.name].default) for f in shared]
    assert [(f.name, f.type) for f in shared] == [(f.name, shown[f.name].annotation) for f in shared]


@pytest.mark.parametrize(
    ("alias", "values"),
    [
        (options.Backend, options.BACKENDS),
        (init.Style, tuple(init.STYLES)),
        (elman.Nonlinearity, tuple(elman.NONLINEARITIES)),
        (flax_nnx.CellName, flax_nnx.CELLS),
    ],
)
def test_an_alias_has_the_accepted_values(alias, values):
    assert typing.get_args(alias) == values


def test_a_chosen_backend_is_also_an_option():
    chosen = typing.get_type_hints(backends.BackendChoice)["backend"]
    assert set(typing.get_args(chosen)) == set(options.BACKENDS) - {"auto"}


def test_a_state_may_hold_anything_that_a_tree_may_hold():
    state = jax_lstm.LSTMState(h=np.ones(2), c=None)
    assert jax.tree.map(lambda a: a + 1, state).h.tolist() == [2, 2]
    axes = jax_lstm.LSTMState(h=1, c=1)
    states = jax_lstm.LSTMState(h=np.ones((1, 3, 5)), c=np.ones((1, 3, 5)))
    assert jax.vmap(lambda s: s.h, in_axes=(axes,))(states).shape == (3, 1, 5)
