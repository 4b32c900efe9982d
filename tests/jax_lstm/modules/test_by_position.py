"""Modules take sizes by position and options by name, so that torch.nn.LSTM(300, 256) does not become 256 layers."""

from __future__ import annotations

import copy
import inspect
import pickle

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jax_lstm import linen, nnx

X = jnp.ones((2, 3, 4))
RNGS = flax_nnx.Rngs(0)

TOO_MANY = {
    "linen.LSTM": (
        lambda: linen.LSTM(300, 256),
        r"LSTM takes hidden_size by position and every other option by name; got 2 by position: 300, 256\. "
        r"torch\.nn\.LSTM\(300, 256\) is linen\.LSTM\(256\): D is read from x\.$",
    ),
    "linen.LSTM, layers": (lambda: linen.LSTM(3, 5, 2), r"got 3 .*3, 5, 2\. torch\.nn\.LSTM\(3, 5\) is"),
    "linen.LSTMCell": (
        lambda: linen.LSTMCell(300, 256),
        r"LSTMCell takes features by position .*torch\.nn\.LSTMCell\(300, 256\) is linen\.LSTMCell\(hidden_size=256\)",
    ),
    "linen.OptimizedLSTMCell": (
        lambda: linen.OptimizedLSTMCell(5, flax.linen.sigmoid),
        "OptimizedLSTMCell takes features by position and every other option by name; got 2",
    ),
    "linen.SequenceModel": (
        lambda: linen.SequenceModel(7, 3, 5, 4, 2),
        "takes vocab_size, embedding_size, hidden_size, output_size by position .* got 5",
    ),
    "linen.Linear": (lambda: linen.Linear(3, 5), r"torch\.nn\.Linear\(3, 5\) is linen\.Linear\(5\)"),
    "linen.Embedding": (lambda: linen.Embedding(3, 5, 0), "takes vocab_size, size by position"),
    "nnx.LSTM": (
        lambda: nnx.LSTM(300, 256, 2, rngs=RNGS),
        r"takes input_size, hidden_size by position .*torch\.nn\.LSTM\(300, 256, 2\) is "
        r"nnx\.LSTM\(300, 256, num_layers=2\)",
    ),
    "nnx.LSTMCell": (
        lambda: nnx.LSTMCell(3, 5, False, rngs=RNGS),
        r"takes in_features, hidden_features by position .*torch\.nn\.LSTMCell\(3, 5, False\) is "
        r"nnx\.LSTMCell\(input_size=3, hidden_size=5, bias=False\)",
    ),
    "nnx.SequenceModel": (lambda: nnx.SequenceModel(7, 3, 5, 4, 2, rngs=RNGS), "output_size by position .* got 5"),
    "nnx.Linear": (lambda: nnx.Linear(3, 5, False, rngs=RNGS), "takes fan_in, size by position"),
    "nnx.Embedding": (lambda: nnx.Embedding(3, 5, 0, rngs=RNGS), "takes vocab_size, size by position"),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_an_option_by_position_is_refused(name):
    make, message = TOO_MANY[name]
    with pytest.raises(TypeError, match=message):
        make()


NO_OPTION = {
    "of Flax": (lambda: linen.LSTM(features=16), r"^LSTM has no option 'features'\. Write hidden_size=\.\.\.$"),
    "of Flax, nnx": (lambda: nnx.LSTM(3, hidden_features=5, rngs=RNGS), r"'hidden_features'\. Write hidden_size="),
    "of torch": (lambda: linen.LSTM(16, batch_first=True), r"'batch_first'\. batch_first=True is the default here"),
    "of torch, D": (lambda: linen.LSTM(input_size=3, hidden_size=5), "number of features is read from x"),
    "of Keras": (lambda: linen.LSTM(units=16), "Write hidden_size="),
    "misspelt": (lambda: linen.LSTM(16, num_layer=2), "Did you mean 'num_layers'"),
    "of a cell": (lambda: linen.LSTMCell(hidden_size=5, batch_first=True), "Its options are features, "),
}


@pytest.mark.parametrize("name", NO_OPTION)
def test_an_unknown_option_is_refused_with_advice(name):
    make, message = NO_OPTION[name]
    with pytest.raises(TypeError, match=message):
        make()


SIGNATURES = {
    linen.LSTM: (["hidden_size"], {"num_layers": 1, "dropout": 0.0, "deterministic": None}),
    linen.LSTMCell: (["features"], {"hidden_size": None, "bias": True}),
    linen.SequenceModel: (["vocab_size", "embedding_size", "hidden_size", "output_size"], {"num_layers": 1}),
    nnx.LSTM: (["input_size", "hidden_size"], {"num_layers": 1, "deterministic": False}),
    nnx.LSTMCell: (["in_features", "hidden_features"], {"hidden_size": None, "bias": True}),
    nnx.SequenceModel: (["vocab_size", "embedding_size", "hidden_size", "output_size"], {"num_layers": 1}),
}


@pytest.mark.parametrize("module", SIGNATURES, ids=lambda module: f"{module.__module__}.{module.__name__}")
def test_a_signature_has_sizes_by_position_and_options_by_name(module):
    sizes, defaults = SIGNATURES[module]
    parameters = inspect.signature(module).parameters
    assert [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == sizes
    assert {name: parameters[name].default for name in defaults} == defaults
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in defaults if name not in sizes)
    assert "self" not in parameters
    assert "rngs" in parameters or "name" in parameters


def test_the_call_of_a_module_keeps_its_signature():
    module = nnx.LSTM(4, 5, rngs=RNGS)
    assert next(iter(inspect.signature(module).parameters)) == "x"


def test_flax_copies_a_module():
    module = linen.LSTM(5, num_layers=2, name="rnn")
    assert module.clone() == module == copy.deepcopy(module) == pickle.loads(pickle.dumps(module))
    assert module.clone(num_layers=3) == linen.LSTM(hidden_size=5, num_layers=3, name="rnn")
    cell = linen.LSTMCell(5)
    assert cell.copy() == cell == linen.LSTMCell(features=5)
    assert hash(cell) == hash(linen.LSTMCell(5))


class Wide(linen.LSTM):
    """A subclass with two more fields."""

    scale: float = 2.0
    shift: float = 0.0

    def __call__(self, x, **options):
        y, state = super().__call__(x, **options)
        return y * self.scale + self.shift, state


def test_a_subclass_has_its_own_fields():
    module = Wide(5, 3.0, num_layers=2)
    assert (module.scale, module.shift, module.num_layers) == (3.0, 0.0, 2)
    assert list(inspect.signature(Wide).parameters)[:3] == ["hidden_size", "scale", "shift"]
    assert module.clone(shift=1.0) == Wide(5, 3.0, 1.0, num_layers=2)
    variables = module.init(jax.random.key(0), X)
    expected, _ = linen.LSTM(5, num_layers=2).apply(variables, X)
    np.testing.assert_array_equal(module.apply(variables, X)[0], expected * 3.0)
    with pytest.raises(TypeError, match="Wide takes hidden_size, scale, shift by position"):
        Wide(5, 3.0, 1.0, 2)


def test_a_subclass_with_its_own_init_has_its_own_signature():
    class Subclass(linen.LSTM):
        def __init__(self, *sizes, **options):
            super().__init__(sizes[-1], **options)

    assert Subclass(3, 5).hidden_size == 5


def test_subclasses_that_flax_makes_refuse_options_by_position():
    for lifted in (flax.linen.remat(linen.LSTM), flax.linen.jit(linen.LSTM)):
        with pytest.raises(TypeError, match=r"torch\.nn\.LSTM\(3, 5\) is linen\.LSTM\(5\)"):
            lifted(3, 5)


def test_a_subclass_in_nnx_has_its_own_signature():
    class Model(nnx.LSTM):
        def __init__(self, hidden_size, depth, *, rngs):
            super().__init__(4, hidden_size, num_layers=depth, rngs=rngs)

    assert list(inspect.signature(Model).parameters) == ["hidden_size", "depth", "rngs"]
    assert Model(5, 2, rngs=RNGS)(X)[1].h.shape == (2, 2, 5)
